"""Show one run in a tracker: a parent for the run, and below it one for each stage; each thing exactly once.

What was shown is kept in `tracking/<store>/<run>.json` of the workspace and moves on after the tracker has
acknowledged. If the process dies in between, the next sync sends the same again, and finds runs by their tags.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tokexp.durable import write_atomic
from tokexp.ledger.locks import file_lock
from tokexp.ledger.outputs import read_result
from tokexp.ledger.runs import RunNode, RunRecord
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import Point, Status, SyncReport, TrackedRun, Tracker
from tokexp.tracking.curves import draw, loss_curves
from tokexp.tracking.measures import means, per_seed, prefix
from tokexp.tracking.projection import (
    AttemptIndex,
    Cursor,
    flatten,
    run_status,
    run_tags,
    stage_status,
    stage_tags,
)
from tokexp.tracking.stores import LOCK_S, TrackerOf, experiment_of, open_tracker, state_path, tracking_uri


@dataclass
class _Shown:
    """How far a stage has been shown."""

    id: str
    cursor: Cursor
    status: Status | None = None


@dataclass
class _State:
    """How far a run has been shown."""

    id: str | None = None
    status: Status | None = None
    metrics: list[str] = field(default_factory=list)
    stages: dict[str, _Shown] = field(default_factory=dict)


def shown(workspace: Workspace, record: RunRecord) -> bool:
    """Return whether a finished run was shown in full in its store; looks at the workspace alone."""
    return _load(state_path(workspace, record.ref, tracking_uri(workspace, record))).status == "FINISHED"


class RunSync:
    """One run and one store; `update` may be called again and again."""

    def __init__(
        self, workspace: Workspace, record: RunRecord, uri: str, index: AttemptIndex,
        tracker_of: TrackerOf = open_tracker,
    ) -> None:  # fmt: skip
        """Nothing is opened before the first update."""
        self.workspace, self.record, self.uri, self.index = workspace, record, uri, index
        self._tracker_of = tracker_of
        self._tracker: Tracker | None = None
        self.path = state_path(workspace, record.ref, uri)

    def update(self, report: SyncReport, *, live: bool) -> None:
        """Show what is new. Raises UnreachableError, RunDeletedError, or InputError if another sync holds the run."""
        with file_lock(self.path.with_suffix(".lock"), LOCK_S):
            state = _load(self.path)
            if self._tracker is None:
                tracker = self._tracker_of(self.workspace, self.uri, experiment_of(self.record))
                state = self._open_parent(tracker, state)
                self._tracker = tracker
            if state.status != "FINISHED":
                attempts = self.index.refresh()
                for node in self.record.nodes:
                    self._stage(self._tracker, state, node, attempts.get(node.key, []), report, live)
                self._finish_parent(self._tracker, state, live)
        report.runs += 1
        if self.uri not in report.stores:
            report.stores.append(self.uri)

    def _open_parent(self, tracker: Tracker, state: _State) -> _State:
        """Find or create the run. If it is not the one that was shown before (a new store), all is shown again."""
        record = self.record
        params = {name: value for name, value in flatten(record.resolved).items() if not name.startswith("track.")}
        run_id = tracker.open_run(
            TrackedRun(record.ref, record.ref, None, round(record.created * 1000), run_tags(record), params)
        )
        if state.id == run_id:
            return state
        tracker.log_text(run_id, "spec.yaml", record.spec_text)
        resolved = yaml.safe_dump(record.resolved, sort_keys=False, allow_unicode=True)
        tracker.log_text(run_id, "resolved.yaml", resolved)
        state = _State(run_id)
        self._save(state)
        return state

    def _stage(
        self, tracker: Tracker, state: _State, node: RunNode, attempts: list[str], report: SyncReport, live: bool
    ) -> None:
        shown = state.stages.get(node.key)
        if shown is not None and shown.status == "FINISHED":
            return
        cursor = shown.cursor if shown is not None else Cursor()
        points, problems = cursor.read(self.workspace, attempts)
        report.problems += problems
        status = stage_status(self.workspace, node, cursor, live=live)
        if status is None:
            return
        if shown is None:
            shown = state.stages[node.key] = _Shown(self._open_stage(tracker, state.id, node, cursor), cursor)
        if status == "FINISHED":
            points += self._final(node, cursor)
        tracker.log(shown.id, points)
        if status != shown.status:
            tracker.set_status(shown.id, status, _ms(cursor.ended))
            shown.status = status
        report.stages += 1
        report.points += len(points)
        self._save(state)

    def _open_stage(self, tracker: Tracker, parent: str | None, node: RunNode, cursor: Cursor) -> str:
        name = node.name if node.seed is None else f"{node.name}, seed {node.seed}"
        started = cursor.started if cursor.started is not None else self.record.created
        reused = cursor.ended is None or cursor.ended < self.record.created
        tags = stage_tags(self.record, node, reused)
        return tracker.open_run(TrackedRun(node.key, name, parent, round(started * 1000), tags, flatten(node.payload)))

    def _final(self, node: RunNode, cursor: Cursor) -> list[Point]:
        metrics = read_result(self.workspace.output(node.kind, node.key))["metrics"]
        time = _ms(cursor.ended) or round(self.record.created * 1000)
        names = {name: f"final/{name}" if name in cursor.steps else name for name in metrics}
        return [Point(names[name], float(value), 0, time) for name, value in metrics.items()]

    def _finish_parent(self, tracker: Tracker, state: _State, live: bool) -> None:
        assert state.id is not None
        points = self._means(state)
        tracker.log(state.id, points)
        state.metrics += [point.name for point in points]
        stages = {key: shown.status or "RUNNING" for key, shown in state.stages.items()}
        status = run_status(stages, len(self.record.nodes), live)
        if status != state.status:
            ends = [shown.cursor.ended or 0.0 for shown in state.stages.values()]
            if status == "FINISHED":
                self._figures(tracker, state.id)
            tracker.set_status(state.id, status, _ms(max(ends, default=0.0) or None))
            state.status = status
        self._save(state)

    def _figures(self, tracker: Tracker, run_id: str) -> None:
        if curves := loss_curves(self.workspace, self.record):
            tracker.log_text(run_id, "figures/loss.svg", draw(curves))

    def _means(self, state: _State) -> list[Point]:
        """Return the means over seeds that are complete and not shown yet, at the time of their last stage."""
        table = per_seed(self.workspace, self.record)
        complete = {name: values for name, values in table.items() if len(values) == len(self.record.seeds)}
        ends: dict[str, float] = {}
        for node in self.record.nodes:
            if (shown := state.stages.get(node.key)) is not None and shown.status == "FINISHED":
                ends[prefix(node)] = max(ends.get(prefix(node), 0.0), shown.cursor.ended or self.record.created)
        return [
            Point(name, value, 0, round(ends.get(name.rpartition("/")[0], self.record.created) * 1000))
            for name, value in means(complete).items()
            if name not in state.metrics
        ]

    def _save(self, state: _State) -> None:
        write_atomic(self.path, json.dumps(asdict(state)).encode())


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _load(path: Path) -> _State:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        stages = {
            key: _Shown(**{**value, "cursor": Cursor(**value["cursor"])}) for key, value in found["stages"].items()
        }
        return _State(**{**found, "stages": stages})
    except (OSError, ValueError, TypeError, KeyError):
        return _State()
