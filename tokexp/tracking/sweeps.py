"""Show one sweep in a tracker: a parent for the sweep and, flat below it, one run for each trial; each thing once.

What was shown is kept in `tracking/<store>/<sweep>.json` of the workspace, and a trial that was shown to its end is not
looked at again. If the process dies before that file is written, the next sync finds the runs by their tags and sends
the same again, which changes nothing.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tokexp.durable import write_atomic
from tokexp.ledger.locks import file_lock
from tokexp.ledger.records import Ledger
from tokexp.ledger.sweeps import Sweep, SweepRecord, TrialRecord, read_trials, sweep_folder
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import Point, Status, SyncReport, TrackedRun, Tracker
from tokexp.tracking.projection import AttemptIndex
from tokexp.tracking.stores import LOCK_S, TrackerOf, experiment_of, open_tracker, state_path
from tokexp.tracking.summary import describe, standings
from tokexp.tracking.trial_runs import ShownTrial, TrialRuns, Turn
from tokexp.tracking.trials import SETTLED, derived, sweep_status, sweep_tags
from tokexp.tracking.views import view_key, view_tag


@dataclass
class _State:
    """How far a sweep has been shown. size: bytes of its trials' file when all of it was. said: its last numbers."""

    id: str | None = None
    status: Status | None = None
    size: int = -1
    said: dict[str, float] = field(default_factory=dict)
    trials: dict[str, ShownTrial] = field(default_factory=dict)


class SweepSync:
    """One sweep and one store; `update` may be called again and again."""

    def __init__(
        self, workspace: Workspace, record: SweepRecord, uri: str, index: AttemptIndex,
        tracker_of: TrackerOf = open_tracker,
    ) -> None:  # fmt: skip
        """Nothing is opened before the first update."""
        self.workspace, self.record, self.uri = workspace, record, uri
        self._tracker_of = tracker_of
        self._tracker: Tracker | None = None
        self._trials = TrialRuns(workspace, index)
        self._read: tuple[int, Sweep] | None = None
        self.path = state_path(workspace, record.ref, uri)

    def update(self, report: SyncReport, *, live: bool) -> None:
        """Show what is new. Raises UnreachableError, RunDeletedError, or InputError if another sync holds the sweep."""
        ledger = self._trials.refresh()
        more = True
        while more:
            with file_lock(self.path.with_suffix(".lock"), LOCK_S):
                more = self._turn(ledger, report, live)
        report.sweeps += 1
        if self.uri not in report.stores:
            report.stores.append(self.uri)

    def page(self) -> str:
        """Return where a dashboard shows the sweep, behind its address; empty before the first update."""
        page = "" if self._tracker is None else self._tracker.page()
        return page and f"{page}?viewStateShareKey={view_key(self.record)}"

    def _turn(self, ledger: Ledger, report: SyncReport, live: bool) -> bool:
        """Show some of what is new; return whether there is more."""
        state = _load(self.path)
        size, sweep = self._sweep()
        self.record = sweep.record
        if self._tracker is None:
            tracker = self._tracker_of(self.workspace, self.uri, experiment_of(self.record))
            state = self._open_parent(tracker, state)
            self._tracker = tracker
        assert state.id is not None
        if state.status == "FINISHED" and state.size == size:
            return False
        waiting = [trial for trial in sweep.trials if not _is_final(state, trial)]
        found = derived(ledger, sweep, waiting, live=live)
        states = Counter[str](trial.state for trial in found)
        states.update(state.trials[each.id].state or "" for each in sweep.trials if _is_final(state, each))
        status = sweep_status(self.workspace, sweep, states, live=live)
        more = self._trials.show(Turn(self._tracker, state.id, sweep, status, report), found, state.trials)
        if not more:
            if any(shown.state == "running" for shown in state.trials.values()):
                status = "RUNNING"
            self._show_parent(self._tracker, state, sweep, states, status)
            state.size = size
        self._save(state)
        return more

    def _sweep(self) -> tuple[int, Sweep]:
        """Return the size of the trials' file and the sweep as it is there; read anew if the file has grown."""
        folder = sweep_folder(self.workspace, self.record.ref)
        file = folder / "trials.jsonl"
        size = file.stat().st_size if file.exists() else 0
        if self._read is None or self._read[0] != size:
            self._read = (size, read_trials(folder))
        return self._read

    def _open_parent(self, tracker: Tracker, state: _State) -> _State:
        """Find or create the sweep's run. If it is not the one that was shown before, all is shown again."""
        record = self.record
        tags = {**sweep_tags(record), "tokexp.spec_hash": record.spec_hash, "tokexp.kind": "sweep"}
        run_id = tracker.open_run(TrackedRun(record.ref, record.ref, None, round(record.created * 1000), tags))
        if state.id == run_id:
            return state
        tracker.log_text(run_id, "spec.yaml", record.spec_text)
        resolved = {name: record.frozen[name] for name in ("sweep", "experiment") if name in record.frozen}
        tracker.log_text(run_id, "resolved.yaml", yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True))
        tracker.label(*view_tag(record))
        state = _State(run_id)
        self._save(state)
        return state

    def _show_parent(self, tracker: Tracker, state: _State, sweep: Sweep, states: Counter[str], status: Status) -> None:
        """Show how many trials are in which state, and what was best until now. Steps count settled trials."""
        assert state.id is not None
        ended = max((shown.ended for shown in state.trials.values()), default=0.0) or sweep.record.created
        found = standings(sweep, {name: shown.values for name, shown in state.trials.items()})
        numbers = {f"trials/{name}": float(states[name]) for name in ("done", "failed", "pruned", "stopped")}
        numbers |= {f"best/{name}": rows[0].mean for name, rows in found.items() if rows}
        news = {name: value for name, value in numbers.items() if state.said.get(name) != value}
        if news or status != state.status:
            settled = sum(states[name] for name in SETTLED)
            points = [Point(name, value, settled, round(ended * 1000)) for name, value in news.items()]
            note = {"mlflow.note.content": describe(sweep, states, found)}
            best = {f"tokexp.best.{name}": rows[0].case for name, rows in found.items() if rows}
            tracker.log(state.id, points, {**note, **best})
        if status != state.status:
            tracker.set_status(state.id, status, None if status == "RUNNING" else round(ended * 1000))
        state.said, state.status = numbers, status

    def _save(self, state: _State) -> None:
        write_atomic(self.path, json.dumps(asdict(state), separators=(",", ":")).encode())


def _is_final(state: _State, trial: TrialRecord) -> bool:
    return trial.id in state.trials and state.trials[trial.id].is_final(trial)


def _load(path: Path) -> _State:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        trials = {name: ShownTrial(**value) for name, value in found["trials"].items()}
        return _State(**{**found, "trials": trials})
    except (OSError, ValueError, TypeError, KeyError):
        return _State()
