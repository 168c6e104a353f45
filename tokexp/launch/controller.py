"""Carries out a plan: what is done is skipped, what can run is submitted, what fails is tried again within reason.

Nothing that must survive lives here. Outputs, claims and events are files of the workspace, so a controller may be
killed at any moment, and any number of them may work on one workspace: whoever comes next takes up what it finds.
"""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tokexp.durable import folder_bytes
from tokexp.errors import TokexpError
from tokexp.launch.attempts import Tail, last_log_line, new_attempt
from tokexp.launch.base import CLAIMED, FAILED, LOG_FILE, STOP_FILE, STOPPED, Ended, Handle, Launcher
from tokexp.launch.display import Display, NodeState, Quiet
from tokexp.launch.recovery import Cause, RetryBudget
from tokexp.launch.request import run_record
from tokexp.ledger.claims import holder
from tokexp.ledger.outputs import complete, set_aside, verify
from tokexp.ledger.records import Ledger
from tokexp.ledger.runs import RunRecord, save_run
from tokexp.ledger.workspace import Workspace
from tokexp.plan.graph import Plan, StageNode
from tokexp.spec.stages import StageJob

POLL_SECONDS = 0.1
GRACE_SECONDS = 20.0
"""Time that attempts have to save after an interrupt, before they are ended."""

INGEST_SECONDS = 2.0
CHECKED_BYTES = 64 * 10**6
"""Finished outputs up to this size are compared with their digests when a run begins; larger ones by their users."""

_SETTLED: Final[frozenset[NodeState]] = frozenset({"done", "failed", "blocked", "stopped"})


@dataclass(frozen=True)
class Failure:
    """A stage that could not be finished: why, in one line, and where to read more."""

    key: str
    name: str
    label: str
    cause: Cause
    message: str
    attempt: str
    log: str


@dataclass(frozen=True)
class RunOutcome:
    """What became of a run. `computed` are the keys whose outputs this controller's attempts made."""

    ref: str
    states: dict[str, NodeState]
    computed: tuple[str, ...]
    failures: tuple[Failure, ...]
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """Return 0 if all is done, 130 after an interrupt, else 1."""
        return 130 if self.interrupted else int(any(state != "done" for state in self.states.values()))


def run_plan(
    plan: Plan,
    workspace: Workspace,
    launcher: Launcher,
    display: Display | None = None,
    record: RunRecord | None = None,
) -> RunOutcome:
    """Save the run's record, carry out the plan, and return what became of it.

    SIGINT and SIGTERM let attempts save and stop (in the main thread only; elsewhere signals are the caller's).
    Raises InputError if the workspace cannot be written to.
    """
    record = record or run_record(plan)
    save_run(workspace, record)
    marker = _stop_marker(workspace, record.ref)
    marker.unlink(missing_ok=True)
    controller = Controller(plan, workspace, launcher, display or Quiet(), marker)
    with controller.signals():
        controller.run()
    return controller.outcome(record.ref)


def request_run_stop(workspace: Workspace, ref: str) -> None:
    """Ask the controllers of a run, wherever they are, to stop their attempts and end."""
    marker = _stop_marker(workspace, ref)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text("cancel")


def _stop_marker(workspace: Workspace, ref: str) -> Path:
    return workspace.runs / ref / STOP_FILE


@dataclass
class _Work:
    node: StageNode
    state: NodeState = "to do"
    budget: RetryBudget = field(default_factory=RetryBudget)
    handle: Handle | None = None
    tail: Tail | None = None


class Controller:
    """One run of a plan. `run_plan` is the way in."""

    def __init__(
        self, plan: Plan, workspace: Workspace, launcher: Launcher, display: Display, stop_marker: Path
    ) -> None:
        """Take what to do, where, by what, whom to tell, and the file that asks for an end."""
        self._stop_marker = stop_marker
        self._workspace, self._launcher, self._display = workspace, launcher, display
        self._plan = plan
        self._works = {node.key: _Work(node) for node in plan.nodes}
        self._failures: dict[str, Failure] = {}
        self._computed: list[str] = []
        self._interrupts, self._obeyed = 0, 0
        self._deadline = 0.0
        self._ledger, self._ingested = Ledger(workspace), 0.0
        self._said: set[str] = set()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into an orderly end while the block runs."""
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
        self._interrupts += 1
        if self._launcher.blocking:
            for work in self._active():
                if work.handle is not None:
                    self._launcher.cancel(work.handle)

    def run(self) -> None:
        """Work until every stage is settled, or until an interrupt has been obeyed."""
        self._display.begin(self._plan)
        self._look_around()
        while not self._over():
            self._obey_interrupts()
            ends = self._launcher.poll()
            for ended in ends:
                self._take_end(ended)
            for work in self._works.values():
                self._advance(work)
            self._ingest()
            if not ends and not self._over():
                time.sleep(POLL_SECONDS)
        self._ingest(force=True)

    def outcome(self, ref: str) -> RunOutcome:
        """Return what became of the run."""
        states = {key: work.state for key, work in self._works.items()}
        interrupted = self._interrupts > 0 and any(state != "done" for state in states.values())
        return RunOutcome(ref, states, tuple(self._computed), tuple(self._failures.values()), interrupted)

    def _over(self) -> bool:
        if self._interrupts:
            return not self._active()
        return all(work.state in _SETTLED for work in self._works.values())

    def _active(self) -> list[_Work]:
        return [work for work in self._works.values() if work.handle is not None]

    def _look_around(self) -> None:
        """Find what is done already. What is damaged is set aside and computed again."""
        for work in self._works.values():
            folder = self._output(work.node.key)
            if not complete(folder):
                continue
            problems = verify(folder) if folder_bytes(folder) <= CHECKED_BYTES else []
            if problems and set_aside(folder) is not None:
                self._display.say(f"the output of {work.node.name} is damaged ({problems[0]}): it is computed again")
            else:
                self._set(work, "done")

    def _advance(self, work: _Work) -> None:
        if work.tail is not None:
            for event in work.tail.read():
                if work.state == "queued":
                    self._set(work, "running")
                self._display.event(work.node, event)
        if self._interrupts:
            return
        if work.state == "elsewhere" or (work.state == "to do" and self._ready(work)):
            self._start_or_wait(work)

    def _ready(self, work: _Work) -> bool:
        return all(self._works[key].state == "done" for key in work.node.inputs.values())

    def _start_or_wait(self, work: _Work) -> None:
        """Submit an attempt, unless the output has come meanwhile or another attempt is alive."""
        if complete(self._output(work.node.key)):
            work.tail = None
            self._set(work, "done", "by another run" if work.state == "elsewhere" else "")
            return
        held = holder(self._workspace, work.node.key)
        if held is not None and held.alive:
            folder = self._workspace.attempt(held.attempt)
            if work.tail is None or work.tail.folder != folder:
                work.tail = Tail(folder)
            if work.state != "elsewhere":
                self._set(work, "elsewhere", f"attempt {held.attempt} on {held.host}")
        elif work.state == "elsewhere":
            self._take_end_elsewhere(work)
        else:
            folder = new_attempt(self._workspace, self._job(work.node))
            work.tail = Tail(folder)
            work.handle = self._launcher.submit(folder, work.node.resources)
            self._set(work, "queued")

    def _take_end_elsewhere(self, work: _Work) -> None:
        """An attempt of somebody else let go of its claim without an output."""
        assert work.tail is not None
        for event in work.tail.read():
            self._display.event(work.node, event)
        if complete(self._output(work.node.key)):
            return  # It was published between the two looks; the next round sees it.
        tail, work.tail = work.tail, None
        self._judge(work, tail, FAILED if tail.last is not None else -signal.SIGKILL, timed_out=False)

    def _take_end(self, ended: Ended) -> None:
        work = next((work for work in self._active() if work.handle == ended.handle), None)
        if work is None or work.tail is None:
            return
        for event in work.tail.read():
            self._display.event(work.node, event)
        tail, work.tail, work.handle = work.tail, None, None
        if complete(self._output(work.node.key)):
            if tail.last is not None and tail.last["e"] == "done":
                self._computed.append(work.node.key)
            self._set(work, "done")
        elif ended.exit_code == CLAIMED:
            self._set(work, "to do")
        else:
            self._judge(work, tail, ended.exit_code, timed_out=ended.timed_out)

    def _judge(self, work: _Work, tail: Tail, exit_code: int, *, timed_out: bool) -> None:
        """Decide what follows from an attempt that ended without an output."""
        cause, message = _why(tail, exit_code, timed_out)
        if self._interrupts and cause in ("stopped", "lost"):
            self._set(work, "stopped")
            return
        damaged = list((tail.last or {}).get("damaged", ()))
        again = work.budget.allows(cause, tail.step) and (cause != "input" or bool(damaged))
        if again:
            for key in damaged:
                self._recompute(key)
            if not self._interrupts:
                self._display.say(f"{work.node.name}: {message}; it is started again")
            self._set(work, "to do")
            return
        log = str(tail.folder / LOG_FILE)
        message += work.budget.exhausted(cause)
        node = work.node
        self._failures[node.key] = Failure(node.key, node.name, node.label, cause, message, tail.folder.name, log)
        self._set(work, "failed", message)
        self._block(node.key)

    def _recompute(self, key: str) -> None:
        work, folder = self._works[key], self._output(key)
        problems = verify(folder) if complete(folder) else []
        if problems and set_aside(folder) is not None:
            self._display.say(f"the output of {work.node.name} is damaged ({problems[0]}): it is computed again")
        if work.state == "done" and not complete(folder):
            self._set(work, "to do")

    def _block(self, failed: str) -> None:
        name = self._works[failed].node.name
        for work in self._works.values():
            if work.state == "to do" and failed in work.node.inputs.values():
                self._set(work, "blocked", f"needs {name}")
                self._block(work.node.key)

    def _obey_interrupts(self) -> None:
        if not self._interrupts and self._stop_marker.exists():
            self._interrupts = 1
        if not self._interrupts:
            return
        now = time.monotonic()
        if not self._obeyed:
            self._deadline = now + GRACE_SECONDS
            self._display.say("stopping: attempts save their work (a second Ctrl-C ends them at once)")
        force = self._interrupts > 1 or now > self._deadline
        if self._obeyed < 1 + force:
            for work in self._active():
                assert work.handle is not None
                self._launcher.cancel(work.handle, force=force)
        self._obeyed = 1 + force

    def _ingest(self, *, force: bool = False) -> None:
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

    def _set(self, work: _Work, state: NodeState, note: str = "") -> None:
        work.state = state
        self._display.state(work.node, state, note)

    def _output(self, key: str) -> Path:
        return self._workspace.output(self._works[key].node.kind, key)

    def _job(self, node: StageNode) -> StageJob:
        return stage_job(node, self._workspace, self._plan.name)


def stage_job(node: StageNode, workspace: Workspace, name: str) -> StageJob:
    """Return what a worker is told about a stage of the plan called `name`."""
    fields: dict[str, Any] = {
        "key": node.key,
        "payload": node.payload,
        "seed": node.seed,
        "inputs": dict(node.inputs),
        "fingerprint": node.fingerprint,
        "workspace": str(workspace.root.absolute()),
        "device": node.resources.device,
        "threads": node.resources.cpus,
        "label": f"{name}/{node.name}: {node.label}",
    }
    return StageJob.model_validate(fields)


def _why(tail: Tail, exit_code: int, timed_out: bool) -> tuple[Cause, str]:
    """Return why an attempt ended without an output, as a cause and in words."""
    last = tail.last or {}
    reason = last.get("reason")
    if timed_out or reason == "timeout":
        return "timeout", "its time was up"
    if last.get("e") == "failed":
        return last["cause"], str(last["message"])
    if reason == "cancel":
        return "cancel", "it was cancelled"
    if reason is not None or exit_code == STOPPED:
        return "stopped", "it was stopped by a signal"
    if exit_code < 0:
        return "lost", f"its process ended without a word (signal {signal.Signals(-exit_code).name})"
    line = last_log_line(tail.folder)
    return "code", f"its process ended with code {exit_code}" + (f": {line}" if line else "")
