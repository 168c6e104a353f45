"""Where a sweep's trials come from: a list that is known beforehand, or a search that is asked and told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from tokexp.errors import SpecError, TokexpError
from tokexp.ledger.sweeps import TrialRecord
from tokexp.plan.graph import StageNode
from tokexp.plan.sweep import Point, SweepPlan, Trial, expand, plan_points, point_of
from tokexp.spec.sweep_reading import ReadSweep

if TYPE_CHECKING:
    from tokexp.search.records import Asked

ALL_TRIED = "all of its points were tried"
MOST_REJECTED = 100
"""Points in a row that are excluded or invalid, after which a search is given up."""


@dataclass(frozen=True)
class NewPoint:
    """A point to be tried: its number, its trials (one per seed) and their stages by key."""

    number: int
    trials: tuple[Trial, ...]
    nodes: Mapping[str, StageNode]


@dataclass(frozen=True)
class Verdict:
    """What became of a point: each metric's mean over the seeds, or why there is none.

    state: done, pruned, failed, or stopped, which is tried anew when somebody asks for the sweep again.
    """

    number: int
    state: str
    values: Mapping[str, float]


class Source(Protocol):
    """Gives points one after the other, and hears what became of them. `total`: how many trials, if that is known."""

    total: int | None

    @property
    def exhausted(self) -> str:
        """Return why there are no more points, once `next` has none."""

    def next(self) -> NewPoint | None:
        """Return the next point that nobody has tried; None if there is none now."""

    def again(self, trial: TrialRecord) -> NewPoint:
        """Return a point of an earlier controller once more."""

    def report(self, number: int, step: int, value: float) -> bool:
        """Hear a value on the way; return whether the point should be given up."""

    def tell(self, verdict: Verdict) -> None:
        """Hear what became of a point."""


class StaticSource:
    """The static points of a sweep, in written order."""

    def __init__(self, plan: SweepPlan) -> None:
        """Take the plan of all of them."""
        self._points: dict[str, NewPoint] = {}
        nodes = {node.key: node for node in plan.plan.nodes}
        for trial in plan.trials:
            number = self._points[trial.point.id].number if trial.point.id in self._points else len(self._points)
            earlier = self._points[trial.point.id].trials if trial.point.id in self._points else ()
            own = {key: nodes[key] for each in (*earlier, trial) for key in each.keys.values()}
            self._points[trial.point.id] = NewPoint(number, (*earlier, trial), own)
        self._left = list(self._points.values())
        self.total: int | None = len(plan.trials)

    @property
    def exhausted(self) -> str:
        """Return why there are no more points."""
        return ALL_TRIED

    def next(self) -> NewPoint | None:
        """Return the next point in written order."""
        return self._left.pop(0) if self._left else None

    def again(self, trial: TrialRecord) -> NewPoint:
        """Return the point of a trial. Raises TokexpError if the sweep does not have it any more."""
        if trial.point not in self._points:
            raise TokexpError(f"the trial {trial.id} ({trial.case}) is not in the sweep any more; start it anew")
        return self._points[trial.point]

    def report(self, number: int, step: int, value: float) -> bool:
        """Give nothing up."""
        return False

    def tell(self, verdict: Verdict) -> None:
        """Need nothing."""


class SearchedSource:
    """Points that Optuna asks for. One process at a time may have one."""

    def __init__(self, read: ReadSweep, folder: Path, known: Sequence[TrialRecord]) -> None:
        """Take the sweep, the folder of the study, and the trials that earlier controllers began."""
        from tokexp.search.study import Search

        self._read, self._static = read, {point.case: point for point in expand(read)} if _has_static(read) else {}
        self.total: int | None = None
        self._search = Search(folder, read.sweep, tuple(self._static))
        self._numbers = {trial.point: trial.number for trial in known}
        self._twins: dict[int, list[int]] = {}
        self._verdicts: dict[int, Verdict] = {}
        begun = {trial.number for trial in known}
        # Asked for by a controller that died before it wrote the trial down.
        self._unused = [asked for number, asked in sorted(self._search.running().items()) if number not in begun]

    @property
    def exhausted(self) -> str:
        """Return why there are no more points: a space that cannot be counted may still hold some."""
        return ALL_TRIED if self._search.countable else "its sampler suggests only points that were tried"

    def next(self) -> NewPoint | None:
        """Ask until a point comes that is allowed and new. Raises TokexpError if none is, many times in a row."""
        problem = ""
        for _ in range(MOST_REJECTED):
            asked = self._unused.pop(0) if self._unused else self._search.ask()
            if asked is None:
                return None
            found = self._look_at(asked)
            if isinstance(found, NewPoint):
                return found
            problem = found
        if not problem:
            return None
        raise TokexpError(f"{MOST_REJECTED} points in a row cannot be tried; the last: {problem}")

    def again(self, trial: TrialRecord) -> NewPoint:
        """Return the point of a trial that was asked for earlier."""
        return self._planned(trial.number, point_of(self._read, trial.case, trial.values))

    def report(self, number: int, step: int, value: float) -> bool:
        """Pass a value on; return whether the pruner gives the point up."""
        return self._search.report(number, step, value)

    def tell(self, verdict: Verdict) -> None:
        """Tell the search, for the point and for all that are equal to it; what was stopped may still get a result."""
        if verdict.state == "stopped":
            return
        self._verdicts[verdict.number] = verdict
        for number in (verdict.number, *self._twins.pop(verdict.number, [])):
            self._tell(number, verdict)

    def _tell(self, number: int, verdict: Verdict) -> None:
        sweep = self._read.sweep
        wanted = [metric.name for metric in sweep.metrics]
        bounds = [(bound, verdict.values.get(bound.metric)) for bound in sweep.constraints]
        whole = all(name in verdict.values for name in wanted) and all(value is not None for _, value in bounds)
        if verdict.state != "done" or not whole:
            self._search.tell(number, None, "pruned" if verdict.state == "pruned" else "failed")
            return
        broken = [bound.violation(value) for bound, value in bounds if value is not None]
        self._search.tell(number, [verdict.values[name] for name in wanted], "complete", broken)

    def _look_at(self, asked: Asked) -> NewPoint | str:
        """Return the point that was asked for, or why it is not tried."""
        static = self._static.get(asked.case or "")
        values = {**(static.values if static else {}), **asked.values}
        if self._read.excluded(values, asked.case or ""):
            self._search.reject(asked.number, "excluded")
            return f"excluded: {dict(asked.values)}"
        try:
            point = point_of(self._read, asked.case or "", values)
        except SpecError as error:
            self._search.reject(asked.number, str(error.problems[0]))
            return str(error.problems[0])
        first = self._numbers.get(point.id, asked.same_as)
        if first is None or first == asked.number:
            self._numbers[point.id] = asked.number
            return self._planned(asked.number, point)
        if first in self._verdicts:
            self._tell(asked.number, self._verdicts[first])
        else:
            self._twins.setdefault(first, []).append(asked.number)
        return ""

    def _planned(self, number: int, point: Point) -> NewPoint:
        plan = plan_points(self._read.sweep.name, [point])
        self._search.describe(number, {"trials": [trial.id for trial in plan.trials]})
        self._numbers[point.id] = number
        return NewPoint(number, plan.trials, {node.key: node for node in plan.plan.nodes})


def mean_over_seeds(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every metric that all seeds have."""
    names = set.intersection(*(set(each) for each in found)) if found else set()
    return {name: fmean(each[name] for each in found) for name in sorted(names)}


def _has_static(read: ReadSweep) -> bool:
    return bool(read.sweep.cases or read.sweep.grid or read.sweep.zip)
