"""Carries out stages: what is done is skipped, what can run is submitted, what fails is tried again within reason.

Nothing that must survive lives here. Outputs, claims and events are files of the workspace, so a controller may be
killed at any moment, and any number of them may work on one workspace: whoever comes next takes up what it finds.
"""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tokexp.durable import folder_bytes
from tokexp.errors import TokexpError
from tokexp.launch.attempts import Tail, at_work, attempts_of, leave_word
from tokexp.launch.base import CLAIMED, FAILED, LOG_FILE, STOP_FILE, Ended, Launcher
from tokexp.launch.display import Display, NodeState
from tokexp.launch.gpu_hours import GpuHours
from tokexp.launch.recovery import Cause, RetryBudget
from tokexp.launch.submission import submit
from tokexp.launch.work import Failure, Work, counts, note_end, past_attempts, past_end, why
from tokexp.ledger.claims import ClaimInfo, holder
from tokexp.ledger.events import Event
from tokexp.ledger.outputs import complete, set_aside, verify
from tokexp.ledger.records import Ledger
from tokexp.ledger.workspace import Workspace
from tokexp.plan.graph import StageNode

GRACE_SECONDS = 20.0
"""Time that attempts have to save after an interrupt, before they are ended."""

INGEST_SECONDS = 2.0
CHECKED_BYTES = 64 * 10**6
"""Finished outputs up to this size are compared with their digests when a run begins; larger ones by their users."""

SETTLED: Final[frozenset[NodeState]] = frozenset({"done", "failed", "blocked", "stopped"})


class Controller:
    """Works on stages until they are settled. `add` may bring more at any time; `round` is one look around."""

    def __init__(
        self, name: str, workspace: Workspace, launcher: Launcher, display: Display, stop_marker: Path,
        since: float | None = None,
    ) -> None:  # fmt: skip
        """Take a name for logs, where to work, by what, whom to tell, and the file that asks for an end.

        since: attempts made after this time (unix seconds) count against the budgets of restarts, as if this
        controller had seen them; None: only its own do.
        """
        self.name, self.since = name, since
        self.works: dict[str, Work] = {}
        self.failures: dict[str, Failure] = {}
        self.computed: list[str] = []
        self.interrupts = 0
        self.left = False
        self.meter: GpuHours | None = None
        self._stop_marker = stop_marker
        self._workspace, self._launcher, self._display = workspace, launcher, display
        self._open: dict[str, Work] = {}
        self._news: list[str] = []
        self._obeyed, self._deadline = 0, 0.0
        self._ledger, self._ingested = Ledger(workspace), 0.0
        self._said: set[str] = set()
        self._listeners: list[Callable[[StageNode, Event], None]] = []

    def listen(self, listener: Callable[[StageNode, Event], None]) -> None:
        """Have a function called with every event of every attempt that is followed."""
        self._listeners.append(listener)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into an orderly end while the block runs (in the main thread only).

        Attempts save and stop; where the launcher's scheduler keeps them, they go on and only this process leaves.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, self._on_signal) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _on_signal(self, *_: object) -> None:
        if self._launcher.sends_whole:
            self.left = True
            return
        self.interrupts += 1
        if self._launcher.blocking:
            for work in self.active():
                if work.handle is not None:
                    self._launcher.cancel(work.handle)

    def add(self, nodes: Iterable[StageNode]) -> None:
        """Take on stages, inputs before what needs them; known ones are left as they are, unless they were dropped."""
        for given in nodes:
            known = self.works.get(given.key)
            if known is not None and known.dropped:
                known.dropped = ""
                if known.state == "stopped":
                    self._set(known, "to do")
            if known is None:
                node = replace(given, resources=self._launcher.fitted(given.kind, given.resources))
                work = Work(node, budget=RetryBudget.of(node.resources.retries))
                self.works[node.key] = self._open[node.key] = work
                self._take_up(work)

    def round(self) -> bool:
        """Look once at everything and do what can be done; return whether anything ended."""
        self._obey_interrupts()
        ends = self._launcher.poll()
        for ended in ends:
            self._take_end(ended)
        ready = [work for work in list(self._open.values()) if self._advance(work)]
        if self.meter is not None:
            self.meter.look(self.works.values())
            ready = self.meter.admit(ready, self.works.values())
        if ready and not self.interrupts:
            # With GPU hours to share out, nothing is sent that would hold a share while it waits.
            waiting = [work for work in self._open.values() if work.state == "to do"] if self.meter is None else ready
            for work in submit(ready, waiting, self.works, self._workspace, self._launcher, self.name):
                self._set(work, "queued")
        self.ingest()
        return bool(ends)

    def pause(self) -> None:
        """Wait for as long as the launcher's state is worth asking for again."""
        deadline = time.monotonic() + self._launcher.poll_seconds
        while (rest := deadline - time.monotonic()) > 0 and not (self.interrupts or self.left):
            if self._stop_marker.exists():
                return
            time.sleep(min(rest, 0.5))

    def over(self) -> bool:
        """Say whether every stage is settled, an interrupt has been obeyed, or this process was asked to leave."""
        return self.left or (not self.active() if self.interrupts else not self._open)

    def active(self) -> list[Work]:
        """Return the stages that have an attempt of this controller."""
        return [work for work in self._open.values() if work.handle is not None]

    def news(self) -> list[str]:
        """Return the keys of stages that were settled since the last call."""
        news, self._news = self._news, []
        return news

    def drop(self, key: str, reason: str) -> None:
        """Want a stage no more: it is not started, or what is at work on it, by whomever begun, is asked to stop."""
        work = self.works[key]
        if work.state in SETTLED:
            return
        work.dropped = reason
        if work.handle is not None and work.tail is not None:
            (work.tail.folder / STOP_FILE).write_text(reason)
            if work.state == "queued":
                self._launcher.cancel(work.handle)
            return
        leave_word(self._workspace, key, reason)
        held = holder(self._workspace, key)
        if held is not None and held.alive:
            self._follow_elsewhere(work, held)
        else:
            work.tail = None
            self._set(work, "stopped", reason)

    def at_work(self, key: str) -> bool:
        """Say whether an attempt at a stage waits in a queue, works or is about to, by whomever it was begun."""
        newest = attempts_of(self._workspace, key)[-1:]
        return at_work(self._workspace, key) is not None or any(map(self._launcher.adopt, newest))

    def ingest(self, *, force: bool = False) -> None:
        """Bring the ledger up to date, now and then."""
        now = time.monotonic()
        if not force and now - self._ingested < INGEST_SECONDS:
            return
        self._ingested = now
        try:
            self._ledger.ingest()
        except (TokexpError, OSError, sqlite3.Error) as error:
            # The ledger is a summary: the events stay, and the next reader brings it up to date.
            if str(error) not in self._said:
                self._said.add(str(error))
                self._display.say(f"the ledger was not brought up to date: {error}")

    def _take_up(self, work: Work) -> None:
        """Find how a stage stands: done, at work somewhere, or given up for reasons that still hold."""
        folder = self._output(work.node.key)
        if complete(folder):
            problems = verify(folder) if folder_bytes(folder) <= CHECKED_BYTES else []
            if problems and set_aside(folder) is not None:
                self._display.say(f"the output of {work.node.name} is damaged ({problems[0]}): it is computed again")
            else:
                self._set(work, "done")
                return
        last = attempts_of(self._workspace, work.node.key)[-1:]
        work.handle = self._launcher.adopt(last[0]) if last else None
        past = [] if self.since is None else past_attempts(self._workspace, work.node.key, self.since)
        if work.handle is not None:
            work.tail = Tail(last[0])
            past = [tail for tail in past if tail.folder != last[0]]
        self._replay(work, past)
        if work.handle is not None and work.state not in SETTLED:
            self._set(work, "queued")

    def _replay(self, work: Work, past: list[Tail]) -> None:
        """Count attempts that ended while nobody looked, and give the stage up if the last of them was one too many."""
        held = holder(self._workspace, work.node.key)
        for tail in past:
            if held is not None and held.alive and held.attempt == tail.folder.name:
                continue
            cause, message = past_end(tail)
            work.budget.count(tail.restarts)
            if counts(tail, cause) and not work.budget.allows(cause, tail.step) and tail is past[-1]:
                self._fail(work, tail, cause, message)

    def _advance(self, work: Work) -> bool:
        """Follow a stage's attempt; return whether the stage can be submitted now."""
        if work.tail is not None:
            for event in work.tail.read():
                if work.state == "queued":
                    self._set(work, "running")
                self._pass_on(work, event)
        if self.interrupts:
            return False
        if work.state == "to do" and any(
            self.works[key].state in ("failed", "blocked") for key in work.node.inputs.values()
        ):
            self._set(work, "blocked", "needs what failed")
            return False
        if work.state == "elsewhere" or (work.state == "to do" and self._ready(work)):
            return self._is_free(work)
        return False

    def _ready(self, work: Work) -> bool:
        return all(self.works[key].state == "done" for key in work.node.inputs.values())

    def _is_free(self, work: Work) -> bool:
        """Say whether nobody has finished a stage or works on it, after taking note of it if so."""
        if complete(self._output(work.node.key)):
            work.tail = None
            self._set(work, "done", "by another run" if work.state == "elsewhere" else "")
            return False
        held = holder(self._workspace, work.node.key)
        if held is not None and held.alive:
            self._follow_elsewhere(work, held)
            return False
        if work.state == "elsewhere":
            self._take_end_elsewhere(work)
            return False
        return True

    def _follow_elsewhere(self, work: Work, held: ClaimInfo) -> None:
        folder = self._workspace.attempt(held.attempt)
        if work.tail is None or work.tail.folder != folder:
            work.tail = Tail(folder)
        if work.state != "elsewhere":
            self._set(work, "elsewhere", f"attempt {held.attempt} on {held.host}")

    def _take_end_elsewhere(self, work: Work) -> None:
        """An attempt of somebody else let go of its claim without an output."""
        assert work.tail is not None
        for event in work.tail.read():
            self._pass_on(work, event)
        if complete(self._output(work.node.key)):
            return  # It was published between the two looks; the next round sees it.
        tail, work.tail = work.tail, None
        self._judge(work, tail, *why(tail, FAILED if tail.last is not None else -signal.SIGKILL))

    def _take_end(self, ended: Ended) -> None:
        work = next((work for work in self.active() if work.handle == ended.handle), None)
        if work is None or work.tail is None:
            return
        for event in work.tail.read():
            self._pass_on(work, event)
        tail, work.tail, work.handle = work.tail, None, None
        if complete(self._output(work.node.key)):
            if tail.last is not None and tail.last["e"] == "done":
                self.computed.append(work.node.key)
            self._set(work, "done")
        elif ended.exit_code == CLAIMED and ended.cause is None:
            self._set(work, "to do")
        elif ended.cause is not None:
            note_end(tail.folder, ended.cause, ended.message)
            self._judge(work, tail, ended.cause, ended.message)
        else:
            self._judge(work, tail, *why(tail, ended.exit_code, ended.timed_out))

    def _judge(self, work: Work, tail: Tail, cause: Cause, message: str) -> None:
        """Decide what follows from an attempt that ended without an output."""
        if work.dropped or (self.interrupts and cause in ("stopped", "lost", "preempted", "timeout", "budget")):
            # One that did not end when asked, and was ended, is no machine that was lost.
            ended = self.interrupts > 0 and cause == "lost"
            self._set(work, "stopped", "it was interrupted; it goes on from what it saved" if ended else message)
            return
        if cause == "pruned":  # By a search that is none of ours, and shares the stage.
            cause = "stopped"
        work.budget.count(tail.restarts)
        damaged = list((tail.last or {}).get("damaged", ()))
        again = work.budget.allows(cause, tail.step) and (cause != "input" or bool(damaged))
        if not again:
            self._fail(work, tail, cause, message)
            return
        for key in damaged:
            self._recompute(key)
        if not self.interrupts and cause not in ("dependency", "budget"):
            self._display.say(f"{work.node.name}: {message}; it is started again")
        self._set(work, "to do")

    def _fail(self, work: Work, tail: Tail, cause: Cause, message: str) -> None:
        message = message.removesuffix(work.budget.exhausted(cause)) + work.budget.exhausted(cause)
        node, log = work.node, str(tail.folder / LOG_FILE)
        self.failures[node.key] = Failure(node.key, node.name, node.label, cause, message, tail.folder.name, log)
        self._set(work, "failed", message)
        self._block(node.key)

    def _recompute(self, key: str) -> None:
        work, folder = self.works[key], self._output(key)
        problems = verify(folder) if complete(folder) else []
        if problems and set_aside(folder) is not None:
            self._display.say(f"the output of {work.node.name} is damaged ({problems[0]}): it is computed again")
        if work.state == "done" and not complete(folder):
            self._set(work, "to do")

    def _block(self, failed: str) -> None:
        name = self.works[failed].node.name
        for work in list(self._open.values()):
            if work.state == "to do" and failed in work.node.inputs.values():
                self._set(work, "blocked", f"needs {name}")
                self._block(work.node.key)

    def _obey_interrupts(self) -> None:
        if not self.interrupts and self._stop_marker.exists():
            self.interrupts = 1
        if not self.interrupts:
            return
        now = time.monotonic()
        if not self._obeyed:
            self._deadline = now + GRACE_SECONDS
            self._display.say("stopping: attempts save their work (a second Ctrl-C ends them at once)")
        force = self.interrupts > 1 or now > self._deadline
        if self._obeyed < 1 + force:
            for work in self.active():
                assert work.handle is not None
                self._launcher.cancel(work.handle, force=force)
        self._obeyed = 1 + force

    def _pass_on(self, work: Work, event: Event) -> None:
        self._display.event(work.node, event)
        for listener in self._listeners:
            listener(work.node, event)

    def _set(self, work: Work, state: NodeState, note: str = "") -> None:
        work.state = state
        if state in SETTLED:
            self._open.pop(work.node.key, None)
            self._news.append(work.node.key)
        else:
            self._open[work.node.key] = work
        self._display.state(work.node, state, note)

    def _output(self, key: str) -> Path:
        return self._workspace.output(self.works[key].node.kind, key)
