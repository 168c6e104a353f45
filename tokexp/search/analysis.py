"""What a search has shown, for reports: the best, what mattered, and how it went.

Everything is computed from the rows of a search, which `read_rows` takes from the disk while the search goes on.
With too few trials the answers are empty, never errors. Duplicates of a point count once.
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokexp.search.journal import open_to_read
from tokexp.search.quiet import quietly
from tokexp.search.records import SearchRow, row_of
from tokexp.search.space import Space
from tokexp.spec.sweep import SweepSpec

LEAST_TRIALS = 10
"""Complete trials below which importances are not worth a look."""

BEST_SHARE = 0.1
"""Share of trials that counts as best for importances; more where that were less than five."""


def read_rows(folder: Path, sweep: SweepSpec, cases: Sequence[str] = ()) -> list[SearchRow]:
    """Return what a search has kept so far, reading only; none if it has not begun."""
    from optuna import load_study

    with quietly():
        storage = open_to_read(folder, sweep.sampler.storage)
        if storage is None:
            return []
        try:
            study = load_study(study_name=sweep.name, storage=storage)
        except KeyError:
            return []
        space = Space(sweep, cases)
        return [row_of(trial, space, sweep) for trial in study.get_trials(deepcopy=False)]


def front(rows: Sequence[SearchRow], sweep: SweepSpec) -> list[int]:
    """Return the numbers of feasible trials that no other is better than in all metrics; of equal points the first.

    With one metric, the best trial alone (the first of equally good ones).
    """
    kept: list[tuple[int, tuple[float, ...]]] = []
    for row in _new(rows):
        if not row.feasible:
            continue
        costs = _costs(row, sweep)
        if any(_covers(other, costs) and (other != costs or len(costs) == 1) for _, other in kept):
            continue
        kept = [(number, other) for number, other in kept if other == costs or not _covers(costs, other)]
        kept.append((row.number, costs))
    return [number for number, _ in kept]


def importances(rows: Sequence[SearchRow], sweep: SweepSpec, space: Space) -> dict[str, dict[str, float]]:
    """Return per metric the share, summing to 1, that each path has in reaching its best values (PED-ANOVA).

    Most important first; `case` among the paths where static points stand beside the space. A metric is left out with
    fewer than ten complete trials, or if all have one value.
    """
    complete = [row for row in _new(rows) if row.state == "complete"]
    found = {}
    for metric in sweep.metrics:
        turned = -1.0 if metric.direction == "maximize" else 1.0
        costs = [turned * row.metrics[metric.name] for row in complete]
        if len(complete) >= LEAST_TRIALS and len(set(costs)) > 1:
            found[metric.name] = _shares([row.known for row in complete], costs, space)
    return found


def slices(rows: Sequence[SearchRow]) -> list[dict[str, Any]]:
    """Return a row per complete trial, path and metric: number, path, value, metric, result, feasible."""
    return [
        {
            "number": row.number, "path": path, "value": value, "metric": metric, "result": result,
            "feasible": row.feasible,
        }
        for row in _new(rows)
        for metric, result in row.metrics.items()
        for path, value in _with_case(row).items()
    ]  # fmt: skip


def history(rows: Sequence[SearchRow], sweep: SweepSpec) -> list[dict[str, Any]]:
    """Return a row per trial in order: number, state, metrics, feasible, and `best`: metric to its best value so far.

    `best` is over feasible trials and lacks a metric as long as there is none.
    """
    best: dict[str, float] = {}
    told = []
    for row in rows:
        for metric in sweep.metrics:
            if row.feasible:
                better = max if metric.direction == "maximize" else min
                value = row.metrics[metric.name]
                best[metric.name] = better(best.get(metric.name, value), value)
        told.append(
            {
                "number": row.number, "state": row.state, "case": row.case, "same_as": row.same_as,
                "metrics": row.metrics, "feasible": row.feasible, "best": dict(best), "seconds": row.seconds,
            }
        )  # fmt: skip
    return told


def hypervolumes(rows: Sequence[SearchRow], sweep: SweepSpec) -> list[tuple[int, float]]:
    """Return (number, area) per feasible trial: what the front so far covers; for exactly two metrics, else empty.

    The area reaches to the worst value of each metric among feasible trials, in the metrics' own units.
    """
    feasible = [row for row in rows if row.feasible]
    if len(sweep.metrics) != 2 or not feasible:
        return []
    costs = [_costs(row, sweep) for row in feasible]
    worst = (max(cost[0] for cost in costs), max(cost[1] for cost in costs))
    steps: list[tuple[float, float]] = []
    areas = []
    for row, cost in zip(feasible, costs, strict=True):
        _step_in(steps, (cost[0], cost[1]))
        areas.append((row.number, _area(steps, worst)))
    return areas


def _new(rows: Sequence[SearchRow]) -> list[SearchRow]:
    return [row for row in rows if row.same_as is None]


def _with_case(row: SearchRow) -> dict[str, Any]:
    return row.values if row.case is None else {"case": row.case, **row.values}


def _costs(row: SearchRow, sweep: SweepSpec) -> tuple[float, ...]:
    return tuple(
        -row.metrics[metric.name] if metric.direction == "maximize" else row.metrics[metric.name]
        for metric in sweep.metrics
    )


def _covers(left: Sequence[float], right: Sequence[float]) -> bool:
    return all(mine <= other for mine, other in zip(left, right, strict=True))


def _shares(points: Sequence[Mapping[str, Any]], costs: Sequence[float], space: Space) -> dict[str, float]:
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with quietly():
        # A study of its own: without duplicates, and with the one metric that is asked about.
        study = optuna.create_study(direction="minimize")
        for params, cost in zip(points, costs, strict=True):
            distributions = space.distributions(params)
            study.add_trial(optuna.trial.create_trial(params=dict(params), distributions=distributions, value=cost))
        share = min(0.5, max(BEST_SHARE, 5 / len(points)))
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=share))
    return {name: float(value) for name, value in sorted(found.items(), key=lambda item: (-item[1], item[0]))}


def _step_in(steps: list[tuple[float, float]], cost: tuple[float, float]) -> None:
    """Add a point to a front that is sorted by its first cost, with the second falling; drop what it covers."""
    at = bisect_left(steps, cost)
    if (at and steps[at - 1][1] <= cost[1]) or (at < len(steps) and steps[at] == cost):
        return
    while at < len(steps) and steps[at][1] >= cost[1]:
        del steps[at]
    insort(steps, cost)


def _area(steps: Sequence[tuple[float, float]], worst: tuple[float, float]) -> float:
    area, ceiling = 0.0, worst[1]
    for first, second in steps:
        area += (worst[0] - first) * (ceiling - second)
        ceiling = second
    return area
