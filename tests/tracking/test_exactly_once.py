"""Whatever call to the tracker fails or is the last one before a crash, syncing again ends in the same picture."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.recorded import recorded_run, run_all, workspace_at
from tests.recorded_sweeps import recorded_sweep
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import Point, Status, SyncReport, TrackedRun, Tracker, UnreachableError
from tokexp.tracking.projection import AttemptIndex
from tokexp.tracking.runs import RunSync
from tokexp.tracking.stores import TrackerOf
from tokexp.tracking.sweeps import SweepSync


@dataclass
class MemoryTracker(Tracker):
    """Keeps everything in memory as MLflow does. The call number `breaks_at` fails, after its effect if `late`."""

    breaks_at: int = -1
    late: bool = False
    calls: int = 0
    runs: dict[str, TrackedRun] = field(default_factory=dict)
    points: dict[str, set[Point]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    params: dict[str, dict[str, str]] = field(default_factory=dict)
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

    def open_runs(self, runs: Sequence[TrackedRun]) -> list[str | None]:
        for run in runs:
            self._do(lambda run=run: self.runs.setdefault(f"{run.parent}/{run.key}", run) and None)
        return [f"{run.parent}/{run.key}" for run in runs]

    def log(
        self, run_id: str, points: Sequence[Point] = (), tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        def keep() -> None:
            self.params.setdefault(run_id, {}).update(params or {})
            self.points.setdefault(run_id, set()).update(points)
            self.tags.setdefault(run_id, {}).update(tags or {})

        self._do(keep)

    def log_text(self, run_id: str, name: str, text: str) -> None:
        self._do(lambda: self.texts.update({(run_id, name): text}))

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        self._do(lambda: self.statuses.update({run_id: status}))


Update = Callable[[Tracker], None]


@pytest.fixture(params=["run", "sweep"])
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Workspace, Update]:
    """Return a workspace with something finished in it, and what shows that in a tracker."""
    workspace = workspace_at(tmp_path)
    if request.param == "run":
        record = recorded_run(workspace, seeds=(0,))
        run_all(workspace, record, steps=5)
        return workspace, _updating(lambda of: RunSync(workspace, record, "memory:", AttemptIndex(workspace), of))
    cases = {"a": {0: 0.5, 1: 0.6}, "b": {0: "pruned", 1: "failed"}}
    sweep = recorded_sweep(workspace, cases, total=4).record
    return workspace, _updating(lambda of: SweepSync(workspace, sweep, "memory:", AttemptIndex(workspace), of))


def _updating(make: Callable[[TrackerOf], RunSync | SweepSync]) -> Update:
    return lambda tracker: make(lambda *_: tracker).update(SyncReport(), live=False)


def _picture(tracker: MemoryTracker) -> tuple[object, ...]:
    return tracker.runs, tracker.points, tracker.tags, tracker.params, tracker.texts, tracker.statuses


@pytest.mark.parametrize("late", [False, True])
def test_a_call_that_fails_anywhere_is_made_good_by_the_next_sync(
    recorded: tuple[Workspace, Update], late: bool
) -> None:
    workspace, update = recorded
    whole = MemoryTracker()
    update(whole)
    assert whole.calls > 15
    for number in range(1, whole.calls + 1):
        for path in (workspace.root / "tracking").rglob("*.json"):
            path.unlink()
        tracker = MemoryTracker(breaks_at=number, late=late)
        with pytest.raises(UnreachableError):
            update(tracker)
        update(tracker)
        assert _picture(tracker) == _picture(whole), number


def test_an_emptied_store_is_filled_again(recorded: tuple[Workspace, Update]) -> None:
    _, update = recorded
    first, second = MemoryTracker(), _OtherIds()
    update(first)
    update(second)
    assert sum(map(len, second.points.values())) == sum(map(len, first.points.values())) > 0


class _OtherIds(MemoryTracker):
    def open_runs(self, runs: Sequence[TrackedRun]) -> list[str | None]:
        return [f"new/{run_id}" for run_id in super().open_runs(runs)]
