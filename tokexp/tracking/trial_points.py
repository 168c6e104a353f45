"""The numbers of one trial as a tracker takes them: learning curves of its stages, final metrics, and what it cost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tokexp.ledger.records import AttemptRecord, Ledger
from tokexp.ledger.runs import RunNode
from tokexp.ledger.sweeps import SweepRecord
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import Point
from tokexp.tracking.measures import prefix
from tokexp.tracking.projection import AttemptIndex, Cursor


class AttemptTable:
    """The attempts of every stage as the ledger has them, read when they are first asked for."""

    def __init__(self, ledger: Ledger) -> None:
        """Nothing is read yet."""
        self._ledger = ledger
        self._found: dict[str, list[AttemptRecord]] | None = None

    def of(self, keys: Iterable[str]) -> list[AttemptRecord]:
        """Return the attempts at some stages, without those that only met another one at work."""
        if self._found is None:
            self._found = {}
            for attempt in self._ledger.attempts():
                if attempt.cause != "claimed":
                    self._found.setdefault(attempt.key, []).append(attempt)
        return [attempt for key in keys for attempt in self._found.get(key, [])]


@dataclass
class _Curve:
    cursor: Cursor = field(default_factory=Cursor)
    points: list[Point] = field(default_factory=list)


class StageCurves:
    """What stages said while they were at work. Stages that several trials share are read once."""

    def __init__(self, workspace: Workspace, index: AttemptIndex) -> None:
        """Take where attempts are, and which there are."""
        self._workspace, self._index = workspace, index
        self._attempts: Mapping[str, list[str]] = {}
        self._curves: dict[str, _Curve] = {}

    def refresh(self) -> None:
        """Look which attempts there are now."""
        self._attempts = self._index.refresh()

    def started(self, keys: Iterable[str]) -> float | None:
        """Return when the first of some stages was started, in unix seconds; None if none was."""
        times = [curve.cursor.started for key in keys if (curve := self._read(key)) is not None]
        return min((time for time in times if time is not None), default=None)

    def forget_others(self, keys: set[str]) -> None:
        """Keep in memory the curves of some stages alone."""
        self._curves = {key: curve for key, curve in self._curves.items() if key in keys}

    def points(self, node: RunNode, names: frozenset[str], shown: Mapping[str, int]) -> list[Point]:
        """Return the points of a stage's curves (`finetune/curve/loss`) behind the last step that was shown of each.

        names: the metrics that are of interest; those that begin with `val` always are.
        """
        curve = self._read(node.key)
        return [
            Point(name, point.value, point.step, point.time_ms)
            for point in (curve.points if curve is not None else ())
            if (point.name in names or point.name.startswith("val"))
            and point.step > shown.get(name := f"{prefix(node)}/curve/{point.name}", -1)
        ]

    def _read(self, key: str) -> _Curve | None:
        """Return what a stage has said until now; None if there was no attempt at it."""
        if key not in self._attempts:
            return None
        curve = self._curves.setdefault(key, _Curve())
        curve.points += curve.cursor.read(self._workspace, self._attempts[key])[0]
        return curve


def curve_names(record: SweepRecord) -> frozenset[str]:
    """Return the metrics of stages that are shown as curves: the loss, and what the sweep's pruner looks at."""
    pruner = (record.frozen.get("sweep") or {}).get("pruner") or {}
    return frozenset({"loss", str(pruner.get("metric") or "loss")})


def cost_points(attempts: Iterable[AttemptRecord], time_ms: int) -> list[Point]:
    """Return what a trial's stages took, all attempts together; stages that trials share count in full for each."""
    found = list(attempts)
    costs = {
        "seconds": round(sum(attempt.used for attempt in found), 3),
        "gpu_hours": round(sum(attempt.used * attempt.gpus for attempt in found) / 3600, 6),
        "attempts": float(len(found)),
    }
    return [Point(f"cost/{name}", value, 0, time_ms) for name, value in costs.items()]
