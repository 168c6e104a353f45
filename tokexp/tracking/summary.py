"""What a sweep has come to so far, for its own run in a tracker: the best of its cases, and a description."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tokexp.ledger.sweeps import Sweep, SweepRecord
from tokexp.tracking.trials import point_name

MOST_ROWS = 20
"""Cases in the description's table."""


@dataclass(frozen=True)
class Standing:
    """A case with its mean over all seeds."""

    case: str
    point: str
    mean: float


def chosen_metrics(record: SweepRecord) -> set[str]:
    """Return the metrics that say how good a trial is: what the sweep makes better, and what it sets bounds to."""
    return {metric["name"] for metric in record.metrics} | {bound["metric"] for bound in _bounds(record)}


def standings(sweep: Sweep, values: Mapping[str, Mapping[str, float]]) -> dict[str, list[Standing]]:
    """Return each of the sweep's metrics with its cases, best first: those done for all seeds that keep all bounds.

    A mean that is no finite number has no place among them.
    values: trial id to metric to value, of the trials that are done.
    """
    points: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for trial in sweep.trials:
        points.setdefault(trial.point, []).append(trial.id)
        names.setdefault(trial.point, point_name(sweep.record, trial) or trial.id)
    means = {
        point: _means([values.get(trial, {}) for trial in trials])
        for point, trials in points.items()
        if len(trials) >= len(sweep.record.seeds)
    }
    kept = {point: found for point, found in means.items() if _keeps(_bounds(sweep.record), found)}
    ranked: dict[str, list[Standing]] = {}
    for metric in sweep.record.metrics:
        rows = [
            Standing(names[point], point, found[metric["name"]])
            for point, found in kept.items()
            if math.isfinite(found.get(metric["name"], math.nan))
        ]
        ranked[metric["name"]] = sorted(rows, key=lambda row: row.mean, reverse=metric.get("direction") == "maximize")
    return ranked


def _means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of every metric that all trials of a point have."""
    names = set.intersection(*(set(each) for each in found))
    return {name: fmean(each[name] for each in found) for name in names}


def _bounds(record: SweepRecord) -> list[dict[str, Any]]:
    return list((record.frozen.get("sweep") or {}).get("constraints") or ())


def _keeps(bounds: Sequence[Mapping[str, Any]], means: Mapping[str, float]) -> bool:
    def keeps(bound: Mapping[str, Any]) -> bool:
        value, most, least = means.get(bound["metric"]), bound.get("at_most"), bound.get("at_least")
        return value is not None and (most is None or value <= most) and (least is None or value >= least)

    return all(keeps(bound) for bound in bounds)


def describe(sweep: Sweep, states: Mapping[str, int], found: Mapping[str, list[Standing]]) -> str:
    """Return a description in Markdown: how many trials are in which state, and the cases, best first."""
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if count and state)
    lines = [f"{len(sweep.trials)} trials: {counted or 'none yet'}."]
    first = next(iter(found.values()), [])
    if not first:
        return lines[0]
    seeds = len(sweep.record.seeds)
    lines.append(f"Mean over {seeds} seeds." if seeds > 1 else "One seed: differences may be chance.")
    means = {name: {row.point: row.mean for row in rows} for name, rows in found.items()}
    lines += ["", f"| case | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    for row in first[:MOST_ROWS]:
        cells = [f"{means[name][row.point]:.5g}" if row.point in means[name] else "" for name in found]
        case = " ".join(row.case.replace("|", "/").split())
        lines.append(f"| {case} | {' | '.join(cells)} |")
    if len(first) > MOST_ROWS:
        lines.append(f"\n{len(first) - MOST_ROWS} more; `tokexp compare {sweep.ref}` shows all.")
    return "\n".join(lines)
