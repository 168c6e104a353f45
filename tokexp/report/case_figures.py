"""Figures of a sweep's cases: every seed as a dot with mean and interval, and how training went."""

from collections.abc import Sequence
from typing import Any, Final

from tokexp.ledger.records import Ledger
from tokexp.ledger.sweeps import Sweep
from tokexp.ledger.workspace import Workspace
from tokexp.report.cases import CaseRow
from tokexp.report.drawing import COLOURS, GREY, in_percent, legend_below, panels, scale_of, set_scale, svg, tip
from tokexp.report.results import SHARES, value_text
from tokexp.report.sweep_sheets import ranked
from tokexp.report.trials import SweepResult
from tokexp.report.wording import is_share
from tokexp.tracking.curves import Curve, thin

MOST_CASES: Final = 40
"""Cases in the figure of seeds."""

MOST_CURVES: Final = 8
"""Cases whose learning curves are drawn, the baseline not counted: the best."""

_MOST_PANELS = 6
_POINTS = 200

Band = tuple[list[int], list[float], list[float], list[float]]
"""Steps, and at each the mean, the least and the largest value over seeds."""


def seed_figure(result: SweepResult) -> str:
    """Return each case's values of the first metric by seed, with mean and 95 % interval; empty without values.

    Of a search with one seed it would show nothing that its history does not, and is empty too.
    """
    metric = result.metrics[0]["name"]
    rows = [row for row in (ranked(result) if result.searched else result.cases) if row.mean(metric) is not None]
    if not rows or (result.searched and all(row.estimates[metric].n == 1 for row in rows)):
        return ""
    shown = rows[:MOST_CASES]
    with panels(1, 1, height=0.9 + 0.3 * len(shown)) as (figure, (axis,)):
        for place, row in enumerate(shown):
            _seeds(axis, row, metric, -place)
        axis.set_yticks([-place for place in range(len(shown))], [_shortened(row.name) for row in shown])
        axis.set_ylim(-len(shown) + 0.4, 0.6)
        axis.set_xlabel(metric)
        axis.grid(visible=False, axis="y")
        if is_share(metric):
            in_percent(axis.xaxis)
        for base in (row for row in shown if row.is_baseline):
            axis.axvline(base.estimates[metric].mean, color=GREY, linestyle="--", linewidth=1, zorder=0)
        said = f"{metric} of {len(shown)} of {len(rows)} cases: a dot for each seed, the mean with its 95 % interval"
        return svg(figure, said)


def _seeds(axis: Any, row: CaseRow, metric: str, height: float) -> None:
    colour, found = GREY if row.is_baseline else COLOURS[0], row.estimates[metric]
    for seed, value in row.per_seed[metric].items():
        if value - value == 0:
            (dot,) = axis.plot([value], [height + 0.16], "o", color=colour, alpha=0.65, markersize=4, markeredgewidth=0)
            tip(dot, f"{row.name}, seed {seed}: {value_text(metric, value)}")
    if found.low is not None and found.high is not None:
        axis.hlines(height - 0.14, found.low, found.high, color=colour, linewidth=1.4)
    axis.plot([found.mean], [height - 0.14], "|", color=colour, markersize=9, markeredgewidth=2.2)


def _shortened(name: str) -> str:
    return name if len(name) <= 42 else f"{name[:39]}..."


def curve_figure(workspace: Workspace, sweep: Sweep, result: SweepResult) -> str:
    """Return learning curves of the best cases and the baseline: mean over seeds, and the range of the seeds.

    One panel for each training stage and metric that its steps reported; empty if none reported any.
    """
    cases = _chosen(result)
    found = _bands(workspace, sweep, cases)
    if not found:
        return ""
    chosen = dict(list(found.items())[:_MOST_PANELS])
    colours = _colours(cases)
    with panels(len(chosen), min(2, len(chosen)), height=2.9) as (figure, axes):
        for axis, ((stage, metric), lines) in zip(axes, chosen.items(), strict=True):
            for names, (steps, means, lows, highs) in lines.items():
                colour = colours[names[0]] if len(names) == 1 or len(lines) > 1 else GREY
                axis.plot(steps, means, color=colour, linewidth=1.4, label=_label(names, len(cases)))
                axis.fill_between(steps, lows, highs, color=colour, alpha=0.18, linewidth=0)
            _dress(axis, stage, metric, lines)
        figure.tight_layout(w_pad=2.5)
        legend_below(figure, axes)
        return svg(figure, f"learning curves of {len(cases)} cases: mean over seeds, and the range of the seeds")


def _dress(axis: Any, stage: str, metric: str, lines: dict[tuple[str, ...], Band]) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axis.set_title(stage, fontsize=10)
    axis.set_xlabel("step")
    axis.set_ylabel(metric)
    set_scale(axis, "y", scale_of([mean for _, means, _, _ in lines.values() for mean in means]))
    if is_share(metric) or metric.removeprefix("val_") in SHARES:
        in_percent(axis.yaxis)


def _label(names: tuple[str, ...], cases: int) -> str:
    if len(names) == cases and cases > 1:
        return "all cases"
    text = ", ".join(names)
    return text if len(text) <= 34 else f"{names[0][:20]} and {len(names) - 1} more" if len(names) > 1 else text[:34]


def _colours(cases: Sequence[CaseRow]) -> dict[str, str]:
    """Return a colour for each case: grey for the baseline, unless a grid makes several of it, which look different."""
    single = sum(case.is_baseline for case in cases) == 1
    others = [case.name for case in cases if not (case.is_baseline and single)]
    found = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(others)}
    return found | {case.name: GREY for case in cases if case.is_baseline and single}


def _chosen(result: SweepResult) -> list[CaseRow]:
    best = [row for row in ranked(result) if not row.is_baseline][:MOST_CURVES]
    points = {row.point for row in best}
    return [row for row in result.cases if row.point in points or row.is_baseline]


def _bands(
    workspace: Workspace, sweep: Sweep, cases: Sequence[CaseRow]
) -> dict[tuple[str, str], dict[tuple[str, ...], Band]]:
    """Return (stage, metric) to case names to their band; cases that share their stages share a line."""
    ledger = Ledger(workspace)
    read: dict[str, dict[str, Curve]] = {}
    found: dict[tuple[str, str], dict[tuple[str, ...], Band]] = {}
    for stage, keys, names in _lines(sweep, cases):
        for key in keys:
            if key not in read:
                read[key] = ledger.metrics(key)
        for metric in dict.fromkeys(name for key in keys for name in read[key] if _is_shown(name)):
            if band := _band([read[key][metric] for key in keys if metric in read[key]]):
                found.setdefault((stage, metric), {})[names] = band
    return found


def _lines(sweep: Sweep, cases: Sequence[CaseRow]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Return (stage, its keys by seed, the cases that these keys belong to), in the order of the stages."""
    users: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {}
    for case in cases:
        trials = [trial for trial in sweep.trials if trial.point == case.point]
        # Trials that ended early would cut the curve of the others short.
        trials = [trial for trial in trials if trial.state == "done"] or trials
        for stage in dict.fromkeys(stage for trial in trials for stage in trial.keys):
            keys = tuple(dict.fromkeys(trial.keys[stage] for trial in trials))
            users[stage, keys] = (*users.get((stage, keys), ()), case.name)
    order = list(dict.fromkeys(node.name for node in sweep.nodes.values()))
    found = [(stage, keys, names) for (stage, keys), names in users.items()]
    return sorted(found, key=lambda line: order.index(line[0]) if line[0] in order else len(order))


def _is_shown(metric: str) -> bool:
    return metric == "loss" or metric.startswith("val_") or metric in SHARES


def _band(curves: Sequence[Curve]) -> Band | None:
    """Return mean and range at the steps that all seeds reported with a finite value; None for fewer than two."""
    by_step = [{step: value for step, value in curve if value - value == 0} for curve in curves]
    common = sorted(set.intersection(*(set(each) for each in by_step))) if by_step else []
    if len(common) < 2:
        return None
    steps = [step for step, _ in thin([(step, 0.0) for step in common], _POINTS)]
    columns = [[each[step] for each in by_step] for step in steps]
    return (
        steps, [sum(column) / len(column) for column in columns], [min(column) for column in columns],
        [max(column) for column in columns],
    )  # fmt: skip
