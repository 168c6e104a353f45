"""Carries out a sweep: trials begin within its budget, are watched, given up where a pruner says so, and settled once.

One process at a time drives a sweep (a lock in its folder). What it decides is written to `trials.jsonl` before it
acts, so that it may be killed at any moment: the next one, the same command again or a tick, goes on from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tokexp.launch.base import STOP_FILE, Launcher
from tokexp.launch.controller import SETTLED, Controller
from tokexp.launch.display import NodeState, SweepDisplay
from tokexp.launch.gpu_hours import GpuHours
from tokexp.launch.pruning import Watch
from tokexp.launch.sweep_request import run_node, trial_record
from tokexp.launch.trials import NewPoint, Source, Verdict, mean_over_seeds
from tokexp.launch.work import Failure
from tokexp.ledger.sweeps import COMPLETE_FILE, TrialLog, TrialRecord, TrialState, read_trials, sweep_folder
from tokexp.ledger.workspace import Workspace
from tokexp.spec.sweep import SweepSpec
from tokexp.tracking.measures import named_metrics

PRUNED = "pruned"
"""Why a search gives a point up, as its attempts find it in their folders."""

SEARCH_PARALLEL = 4
"""Most trials at once of a search, or of a sweep with GPU hours to share out, if its budget does not say."""


@dataclass
class _Live:
    """A trial at work: `open` are its stages that are not settled, `ended` how the others were.

    left: why nobody waits for it any more; its stages are being stopped.
    """

    trial: TrialRecord
    open: set[str]
    ended: dict[str, NodeState] = field(default_factory=dict)
    left: str = ""
    running: bool = False


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep stands when its controller ends: trials by state, stages that failed, and whether it is complete.

    spent: its GPU hours are used; trials that were stopped by that are no failure.
    """

    ref: str
    states: Mapping[TrialState, int]
    failures: tuple[Failure, ...]
    interrupted: bool
    complete: bool
    note: str = ""
    spent: bool = False

    @property
    def exit_code(self) -> int:
        """Return 0 if nothing failed, 130 after an interrupt, else 1."""
        if self.interrupted:
            return 130
        return int(bool(self.states.get("failed") or (self.states.get("stopped") and not self.spent)))


class Driver:
    """One controller of one sweep, for the holder of its lock; `tokexp.launch.driving` is the way in."""

    def __init__(
        self, spec: SweepSpec, ref: str, workspace: Workspace, source: Source, launcher: Launcher,
        display: SweepDisplay,
    ) -> None:  # fmt: skip
        """Take the sweep, where its points come from, by what it is run, and whom to tell."""
        self._spec, self._ref, self._workspace = spec, ref, workspace
        self._source, self._display = source, display
        self._folder = folder = sweep_folder(workspace, ref)
        past = read_trials(folder)
        self._log = TrialLog(folder)
        self.controller = Controller(spec.name, workspace, launcher, display, folder / STOP_FILE, past.asked)
        self._trials = {trial.id: trial for trial in past.trials}
        self._nodes, self._given_up = dict(past.nodes), set(past.given_up)
        self._count: Counter[TrialState] = Counter(trial.state for trial in past.trials if trial.state != "planned")
        self._live: dict[str, _Live] = {}
        self._waiting: list[tuple[NewPoint, TrialRecord]] = []
        self._users: dict[str, list[_Live]] = {}
        self._points: dict[int, list[str]] = {}
        self._watch = Watch(spec, self._source.report)
        self._bad = {self._watched(trial) for trial in past.trials if trial.number in self._given_up}
        self.controller.listen(self._watch.event)
        self._exhausted, self._stalled = False, False
        if spec.budget.gpu_hours is not None:
            at_once = spec.budget.parallel or SEARCH_PARALLEL
            meter = GpuHours(spec.budget.gpu_hours, at_once, workspace, past.record.created, self._nodes)
            self.controller.meter = meter

    def begin(self) -> None:
        """Take up what earlier controllers began; the source hears again of what is settled."""
        (self._folder / COMPLETE_FILE).unlink(missing_ok=True)
        self._display.begin_sweep(self._spec.name, self._total())
        for trial in self._trials.values():
            self._points.setdefault(trial.number, []).append(trial.id)
        for number, ids in list(self._points.items()):
            if self._settled(number):
                self._source.tell(self._verdict(number))
                continue
            point = self._source.again(self._trials[ids[0]])
            self._wait(point)
        if self._at_once is not None:
            # What is at work takes part of what may be at once, whether it is taken up or not.
            self._waiting.sort(key=lambda each: not self._at_work(each[1]))

    def round(self) -> bool:
        """Look once at everything; return whether anything changed."""
        changed = self.controller.round()
        self._drop_unpaid()
        changed = self._settle() or changed
        if self.controller.interrupts or self.controller.left:
            return changed
        for number in self._watch.given_up():
            changed = self._prune(number) or changed
        return self._admit() or changed

    def over(self) -> bool:
        """Say whether there is nothing left to do, or this process has to end."""
        if self.controller.interrupts or self.controller.left:
            return self.controller.over()
        return self._finished()

    def close(self) -> SweepOutcome:
        """Bring the ledger up to date, close the log, and return how the sweep stands."""
        self.controller.ingest(force=True)
        self._log.close()
        states: dict[TrialState, int] = {}
        for trial in self._trials.values():
            live = self._live.get(trial.id)
            state: TrialState = "running" if live is not None and live.running else trial.state
            states[state] = states.get(state, 0) + 1
        # Trials of an earlier, larger budget stay as they are.
        complete = self._finished() and not (states.get("planned") and self._within_trials())
        if complete:
            (self._folder / COMPLETE_FILE).touch()
        else:
            (self._folder / COMPLETE_FILE).unlink(missing_ok=True)
        interrupted = self.controller.interrupts > 0 and not complete
        failures = tuple(self.controller.failures.values())
        spent = self._hours_used()
        return SweepOutcome(self._ref, states, failures, interrupted, complete, self._why_closed(), spent)

    def _finished(self) -> bool:
        return not self._live and self._next_waiting() is None and self._why_closed() != ""

    def _total(self) -> int | None:
        bound, known = self._spec.budget.trials, self._source.total
        return known if bound is None else bound if known is None else min(known, bound)

    def _why_closed(self) -> str:
        """Return why no further point begins, or nothing."""
        bound, seeds = self._spec.budget.trials, len(self._spec.seeds)
        if bound is not None and len(self._trials.keys() | {trial.id for _, trial in self._waiting}) + seeds > bound:
            return f"its budget of {bound} trials is used"
        return self._spent_out() or (self._source.exhausted if self._exhausted else "")

    def _spent_out(self) -> str:
        """Return what was used up, so that nothing at all begins any more, or nothing."""
        budget = self._spec.budget
        if self._failures_used():
            return f"{self._count['failed']} trials failed; its budget allows {budget.failures}"
        return f"its budget of {budget.gpu_hours:g} GPU hours is used" if self._hours_used() else ""

    def _failures_used(self) -> bool:
        bound = self._spec.budget.failures
        return bound is not None and self._count["failed"] >= max(1, bound)

    def _hours_used(self) -> bool:
        meter = self.controller.meter
        return meter is not None and meter.over(self.controller.works.values())

    def _drop_unpaid(self) -> None:
        """Once the GPU hours are used, give up stages that would need some, and those that need such stages."""
        if self.controller.interrupts or not self._hours_used():
            return
        works = self.controller.works
        for key in [key for live in self._live.values() for key in live.open]:
            work = works[key]
            lost = any(works[needed].state == "stopped" for needed in work.node.inputs.values())
            if work.state == "to do" and (work.node.resources.gpus or lost):
                self.controller.drop(key, self._spent_out())

    def _admit(self) -> bool:
        """Begin as many trials as budget and `parallel` allow, a point's seeds one after the other."""
        begun = False
        while self._room():
            if waiting := self._next_waiting():
                self._waiting.remove(waiting)
                self._start(*waiting)
                begun = True
                continue
            if self._stalled or self._why_closed():
                break
            point = self._source.next()
            if point is None:
                # A search may have more to ask once something is told; nothing will be if nothing is at work.
                self._stalled, self._exhausted = True, not self._live
                return begun or self._exhausted
            if not any(trial.id in self._trials for trial in point.trials):
                self._wait(point)
        return begun

    def _next_waiting(self) -> tuple[NewPoint, TrialRecord] | None:
        """Return the trial to take up next.

        What an earlier controller began is settled even if the budget is used: it may be at work, and be given up, and
        some of its stages may need none of what was used up.
        """
        spent = self._spent_out() != ""
        within = self._within_trials()
        for each in self._waiting:
            begun = each[1].id in self._trials
            if (begun and each[1].number in self._given_up) or (within and (begun or not spent)):
                return each
        return None

    def _within_trials(self) -> bool:
        bound = self._spec.budget.trials
        return bound is None or len(self._live) + self._count.total() < bound

    @property
    def _at_once(self) -> int | None:
        shared = self._spec.searched or self._spec.budget.gpu_hours is not None
        return self._spec.budget.parallel or (SEARCH_PARALLEL if shared else None)

    def _room(self) -> bool:
        return self._at_once is None or len(self._live) < self._at_once

    def _at_work(self, trial: TrialRecord) -> bool:
        return trial.id in self._trials and any(map(self.controller.at_work, trial.keys.values()))

    def _wait(self, point: NewPoint) -> None:
        for trial in (trial_record(trial, point.number) for trial in point.trials):
            known = self._trials.get(trial.id)
            if known.state == "planned" if known is not None else point.number not in self._given_up:
                self._waiting.append((point, trial))

    def _start(self, point: NewPoint, trial: TrialRecord) -> None:
        nodes = [node for node in point.nodes.values() if node.key in set(trial.keys.values())]
        begun_before = trial.id in self._trials
        fresh = [run_node(node) for node in nodes if node.key not in self._nodes]
        if not begun_before or fresh:
            self._log.trial(trial, fresh)
        self._nodes.update({node.key: node for node in fresh})
        ids = self._points.setdefault(trial.number, [])
        ids += [] if trial.id in ids else [trial.id]
        self._trials[trial.id] = trial
        live = self._live[trial.id] = _Live(trial, {node.key for node in nodes})
        for node in nodes:
            self._users.setdefault(node.key, []).append(live)
        self._watch.follow(trial, nodes)
        self.controller.add(nodes)
        for node in nodes:
            self._note_stage(node.key)
        self._display.trial(trial, "planned")
        if trial.number in self._given_up or (self._watched(trial) in self._bad and self._watched(trial) in live.open):
            # A stage whose values made the search give another point up says the same of this one.
            self._prune(trial.number)
        elif begun_before and self._failures_used() and not self._at_work(trial):
            self._leave([live], self._spent_out())

    def _settle(self) -> bool:
        for key in self.controller.news():
            self._note_stage(key)
        ended = [live for live in list(self._live.values()) if not live.open]
        for live in ended:
            self._end(live)
        for live in self._live.values():
            if not live.running and any(self.controller.works[key].state == "running" for key in live.open):
                live.running = True
                self._display.trial(live.trial, "running")
        return bool(ended)

    def _note_stage(self, key: str) -> None:
        work = self.controller.works[key]
        if work.state not in SETTLED:
            return
        for live in self._users.get(key, []):
            live.open.discard(key)
            live.ended[key] = work.state

    def _end(self, live: _Live) -> None:
        del self._live[live.trial.id]
        states = set(live.ended.values())
        if states == {"done"}:
            self._finish(live.trial, "done", "")
        elif live.left == PRUNED:
            self._finish(live.trial, "pruned", "worse than others at the same step")
        elif not self.controller.interrupts:
            failed = bool(states & {"failed", "blocked"})
            note = self._why(live) or live.left or self._spent_out()
            self._finish(live.trial, "failed" if failed else "stopped", note)

    def _finish(self, trial: TrialRecord, state: TrialState, note: str) -> None:
        self._log.ended(trial.id, state, note)
        self._trials[trial.id] = replace(trial, state=state, note=note)
        self._count[state] += 1
        self._stalled = False
        self._display.trial(trial, state, note)
        if self._settled(trial.number):
            self._source.tell(self._verdict(trial.number))

    def _settled(self, number: int) -> bool:
        """Say whether no trial of a point is left to do; the seeds that a given up one has not begun never are."""
        ids = self._points[number]
        begun = len(ids) == len(self._spec.seeds) or number in self._given_up
        return begun and all(self._trials[each].state != "planned" for each in ids)

    def _verdict(self, number: int) -> Verdict:
        trials = [self._trials[each] for each in self._points[number]]
        states = {trial.state for trial in trials}
        if states != {"done"}:
            word = "pruned" if states <= {"done", "pruned"} else "failed" if "failed" in states else "stopped"
            return Verdict(number, word, {})
        found = [named_metrics(self._workspace, self._nodes, trial.keys) for trial in trials]
        return Verdict(number, "done", mean_over_seeds(found))

    def _why(self, live: _Live) -> str:
        failures = self.controller.failures
        return next((f"{failures[key].name}: {failures[key].message}" for key in live.ended if key in failures), "")

    def _prune(self, number: int) -> bool:
        """Give a point up, and write that down before anything is stopped; return whether there was anything to do."""
        live = [self._live[each] for each in self._points[number] if each in self._live]
        if not any(not each.left for each in live):
            return False
        if number not in self._given_up:
            self._log.given_up(number)
            self._given_up.add(number)
            self._bad |= {self._watched(self._trials[each]) for each in self._points[number]}
        known = self._trials
        self._waiting = [each for each in self._waiting if each[1].number != number or each[1].id in known]
        self._leave([each for each in live if not each.left], PRUNED)
        return True

    def _watched(self, trial: TrialRecord) -> str | None:
        """Return the key of the stage that the pruner looks at, None if a trial has none."""
        return trial.keys.get(self._watch.stage)

    def _leave(self, trials: list[_Live], why: str) -> None:
        """Stop what these trials alone need; what others need too goes on."""
        for each in trials:
            each.left = why
        for each in trials:
            for key in list(each.open):
                if all(user.left or user.trial.id not in self._live for user in self._users[key]):
                    self.controller.drop(key, why)
                else:
                    each.open.discard(key)
                    each.ended[key] = "stopped"
