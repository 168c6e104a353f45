"""The trials of a sweep as runs of a tracker: opened when they begin, extended while they run, settled once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tokexp.ledger.records import AttemptRecord, Ledger
from tokexp.ledger.sweeps import Sweep, TrialRecord
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import Point, RunDeletedError, Status, SyncReport, TrackedRun, Tracker
from tokexp.tracking.measures import named_metrics
from tokexp.tracking.projection import AttemptIndex
from tokexp.tracking.summary import chosen_metrics
from tokexp.tracking.trial_points import AttemptTable, StageCurves, cost_points, curve_names
from tokexp.tracking.trials import SETTLED, STATUSES, own_keys, trial_name, trial_params, trial_tags

CHUNK: Final = 50
"""Trials that one call brings up to date at most, so that others get their turn at the sweep in between."""

DELETED: Final = ""
"""The id of a run that somebody deleted: it is left alone."""


@dataclass
class ShownTrial:
    """How far a trial has been shown. steps: last step by metric. values: of the metrics that count, once done."""

    id: str
    state: str | None = None
    status: Status | None = None
    ended: float = 0.0
    steps: dict[str, int] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)

    def is_final(self, noted: TrialRecord) -> bool:
        """Say whether nothing is left to show of a trial, whose state is what somebody noted."""
        return self.state == "done" or (self.state in SETTLED and self.state == noted.state)


@dataclass(frozen=True)
class Turn:
    """One look at a sweep. parent: the id of its run. status: how it stands. What is done is added to `report`."""

    tracker: Tracker
    parent: str
    sweep: Sweep
    status: Status
    report: SyncReport


class TrialRuns:
    """Shows the trials of one sweep."""

    def __init__(self, workspace: Workspace, index: AttemptIndex) -> None:
        """Nothing is read yet."""
        self._workspace, self._ledger = workspace, Ledger(workspace)
        self._curves = StageCurves(workspace, index)
        self._attempts = AttemptTable(self._ledger)

    def refresh(self) -> Ledger:
        """Look at what attempts have said until now; return the ledger that knows it."""
        self._ledger.refresh()
        self._curves.refresh()
        self._attempts = AttemptTable(self._ledger)
        return self._ledger

    def show(self, turn: Turn, trials: Sequence[TrialRecord], shown: dict[str, ShownTrial]) -> bool:
        """Bring at most CHUNK trials up to date, which `shown` is told; return whether more are left.

        trials: those that are not final, with the states that they have now.
        """
        own = own_keys(turn.sweep)
        begun = [trial for trial in trials if trial.id in shown or self._has_begun(trial, own[trial.id])]
        new = [trial for trial in begun if trial.id not in shown][:CHUNK]
        runs = [self._run(turn, trial, own[trial.id]) for trial in new]
        for trial, run_id in zip(new, turn.tracker.open_runs(runs), strict=True):
            shown[trial.id] = ShownTrial(DELETED if run_id is None else run_id)
        self._curves.forget_others({key for trial in begun for key in trial.keys.values()})
        changed = 0
        for trial in begun:
            if trial.id not in shown or changed == CHUNK:
                return True
            changed += self._update(turn, trial, self._attempts.of(own[trial.id]), shown[trial.id])
        return False

    def _has_begun(self, trial: TrialRecord, own: list[str]) -> bool:
        return trial.state in SETTLED or self._curves.started(own) is not None

    def _run(self, turn: Turn, trial: TrialRecord, own: list[str]) -> TrackedRun:
        record, started = turn.sweep.record, self._curves.started(own)
        start_ms = round((trial.created if started is None else started) * 1000)
        return TrackedRun(trial.id, trial_name(record, trial), turn.parent, start_ms, trial_tags(record, trial))

    def _update(self, turn: Turn, trial: TrialRecord, attempts: list[AttemptRecord], shown: ShownTrial) -> bool:
        """Show what is new about a trial; return whether there was anything. attempts: at its own stages."""
        if shown.id == DELETED:
            return False
        # An attempt may be about to end after its trial was settled: what it says then belongs to the trial.
        final = trial.state in SETTLED and all(attempt.state != "running" for attempt in attempts)
        state = trial.state if final or trial.state not in SETTLED else "running"
        status = STATUSES.get(state, "RUNNING" if turn.status == "RUNNING" else "KILLED")
        ended = max((attempt.ended or attempt.updated for attempt in attempts), default=trial.created)
        results = self._results(turn.sweep, trial, round(ended * 1000)) if final and state != shown.state else []
        curves = self._new_points(turn.sweep, trial, shown)
        if not (results or curves) and (state, status) == (shown.state, shown.status):
            return False
        tags = _state_tags(trial, state) if state != shown.state else None
        params = trial_params(turn.sweep.record, trial) if shown.state is None else None
        try:
            turn.tracker.log(shown.id, results + curves, tags, params)
            if status != shown.status:
                turn.tracker.set_status(shown.id, status, None if status == "RUNNING" else round(ended * 1000))
        except RunDeletedError as error:
            shown.id = DELETED
            turn.report.problems.append(f"{trial_name(turn.sweep.record, trial)}: {error}")
            return True
        shown.state, shown.status, shown.ended = state, status, ended
        chosen = chosen_metrics(turn.sweep.record) if state == "done" else set()
        shown.values = {point.name: point.value for point in results if point.name in chosen}
        shown.steps = {} if final else {**shown.steps, **{point.name: point.step for point in curves}}
        turn.report.trials += 1
        turn.report.points += len(results) + len(curves)
        return True

    def _results(self, sweep: Sweep, trial: TrialRecord, time_ms: int) -> list[Point]:
        """Return the final metrics of a trial's finished stages and what they cost, the sweep's own metrics first."""
        found = named_metrics(self._workspace, sweep.nodes, trial.keys)
        # MLflow's page that compares runs begins with the metric that came first.
        first = [metric["name"] for metric in sweep.record.metrics if metric["name"] in found]
        points = [Point(name, found[name], 0, time_ms) for name in dict.fromkeys([*first, *found])]
        return points + cost_points(self._attempts.of(trial.keys.values()), time_ms)

    def _new_points(self, sweep: Sweep, trial: TrialRecord, shown: ShownTrial) -> list[Point]:
        nodes = [sweep.nodes[key] for key in trial.keys.values() if key in sweep.nodes]
        names = curve_names(sweep.record)
        return [point for node in nodes for point in self._curves.points(node, names, shown.steps)]


def _state_tags(trial: TrialRecord, state: str) -> dict[str, str]:
    return {"tokexp.state": state, **({"tokexp.note": trial.note} if trial.note and state == trial.state else {})}
