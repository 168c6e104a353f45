"""Whatever call to the tracker fails or is the last one before a crash, syncing again ends in the same picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.recorded import recorded_run, run_all, workspace_at
from tokexp.ledger.runs import RunRecord
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import Point, Status, TrackedRun, Tracker, UnreachableError
from tokexp.tracking.projection import AttemptIndex
from tokexp.tracking.sync import RunSync, SyncReport


@dataclass
class MemoryTracker(Tracker):
    """Keeps everything in memory as MLflow does. The call number `breaks_at` fails, after its effect if `late`."""

    breaks_at: int = -1
    late: bool = False
    calls: int = 0
    runs: dict[str, TrackedRun] = field(default_factory=dict)
    points: dict[str, set[Point]] = field(default_factory=dict)
    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    statuses: dict[str, Status] = field(default_factory=dict)

    def _do(self, effect: Callable[[], None]) -> None:
        self.calls += 1
        if self.calls != self.breaks_at:
            effect()
            return
        if self.late:
            effect()
        raise UnreachableError("broken for this test")

    def open_run(self, run: TrackedRun) -> str:
        self._do(lambda: self.runs.setdefault(f"{run.parent}/{run.key}", run) and None)
        return f"{run.parent}/{run.key}"

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        self._do(lambda: self.points.setdefault(run_id, set()).update(points))

    def log_text(self, run_id: str, name: str, text: str) -> None:
        self._do(lambda: self.texts.update({(run_id, name): text}))

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        self._do(lambda: self.statuses.update({run_id: status}))


def _sync(workspace: Workspace, record: RunRecord, tracker: Tracker) -> None:
    run = RunSync(workspace, record, "memory:", AttemptIndex(workspace), lambda *_: tracker)
    run.update(SyncReport(), live=False)


def _picture(tracker: MemoryTracker) -> tuple[object, ...]:
    return tracker.runs, tracker.points, tracker.texts, tracker.statuses


@pytest.mark.parametrize("late", [False, True])
def test_a_call_that_fails_anywhere_is_made_good_by_the_next_sync(tmp_path: Path, late: bool) -> None:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0,))
    run_all(workspace, record, steps=5)
    whole = MemoryTracker()
    _sync(workspace, record, whole)
    assert whole.calls > 15
    for number in range(1, whole.calls + 1):
        for path in (workspace.root / "tracking").rglob("*.json"):
            path.unlink()
        tracker = MemoryTracker(breaks_at=number, late=late)
        with pytest.raises(UnreachableError):
            _sync(workspace, record, tracker)
        _sync(workspace, record, tracker)
        assert _picture(tracker) == _picture(whole), number


def test_an_emptied_store_is_filled_again(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0,))
    run_all(workspace, record, steps=5)
    first, second = MemoryTracker(), _OtherIds()
    _sync(workspace, record, first)
    _sync(workspace, record, second)
    assert sum(map(len, second.points.values())) == sum(map(len, first.points.values())) > 0


class _OtherIds(MemoryTracker):
    def open_run(self, run: TrackedRun) -> str:
        return "new/" + super().open_run(run)
