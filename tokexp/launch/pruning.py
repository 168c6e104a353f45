"""Values on the way: which metrics of which stages a pruner looks at, and what it says to them."""

from collections.abc import Callable, Iterable
from statistics import fmean

from tokexp.ledger.events import Event
from tokexp.ledger.sweeps import TrialRecord
from tokexp.plan.graph import StageNode
from tokexp.spec.sweep import SweepSpec

Report = Callable[[int, int, float], bool]
"""Takes a point's number, a step and a value; returns whether the point should be given up."""


class Watch:
    """Collects what stages say until all seeds of a point have said it, and passes the mean on, step by step."""

    def __init__(self, spec: SweepSpec, report: Report) -> None:
        """Take the sweep with its pruner, and whom values go to."""
        self._report, self._seeds = report, len(spec.seeds)
        pruner = spec.pruner
        self._metric = None if pruner.kind == "none" else pruner.metric
        stage: str | None = getattr(pruner, "stage", None)
        self.stage = stage or spec.metrics[0].name.split("/", maxsplit=1)[0]
        self._points: dict[str, list[tuple[int, int]]] = {}
        self._values: dict[tuple[int, int], dict[int, float]] = {}
        self._last: dict[int, int] = {}
        self._given_up: list[int] = []
        self._over: set[int] = set()

    def follow(self, trial: TrialRecord, nodes: Iterable[StageNode]) -> None:
        """Look at a trial's stage from now on."""
        for node in nodes:
            if self._metric is not None and node.name == self.stage:
                self._points.setdefault(node.key, []).append((trial.number, trial.seed))

    def event(self, node: StageNode, event: Event) -> None:
        """Take an event of an attempt."""
        if event["e"] != "metrics" or node.key not in self._points or self._metric not in event["values"]:
            return
        for number, seed in self._points[node.key]:
            self._take(number, seed, int(event["step"]), float(event["values"][self._metric]))

    def given_up(self) -> list[int]:
        """Return the points that the pruner has given up since the last call."""
        found, self._given_up = self._given_up, []
        return found

    def _take(self, number: int, seed: int, step: int, value: float) -> None:
        if number in self._over or step <= self._last.get(number, -1):
            return  # An attempt that resumed repeats steps that were passed on already.
        seen = self._values.setdefault((number, step), {})
        seen[seed] = value
        if len(seen) < self._seeds:
            return
        self._last[number] = step
        del self._values[number, step]
        if self._report(number, step, fmean(seen.values())):
            self._over.add(number)
            self._given_up.append(number)
