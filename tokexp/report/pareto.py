"""Accuracy against what it costs: plots of a sweep's cases over stored bytes and computing, with their front."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from tokexp.report.cases import CaseRow
from tokexp.report.drawing import COLOURS, GREY, in_percent, label_points, panels, scale_of, set_scale, svg, tip
from tokexp.report.front import non_dominated
from tokexp.report.trials import SweepResult
from tokexp.report.wording import estimate_text, is_share

MOST_NAMED: Final = 300
"""Points that tell their name on hover; more would make a page slow."""

_MOST_LABELS = 14


def pareto_figure(result: SweepResult) -> str:
    """Return plots of the first metric against bytes per image, and against GPU hours (or seconds) of a trial.

    A plot whose costs are all the same says nothing and is left out; without any plot the result is empty.
    """
    metric, direction = result.metrics[0]["name"], result.metrics[0]["direction"]
    rows = [row for row in result.cases if row.mean(metric) is not None]
    axes = [(words, cost, found) for words, cost in _costs(result) if _tells(found := _located(rows, metric, cost))]
    if not axes:
        return ""
    with panels(len(axes), 2 if len(axes) > 1 else 1, height=4.0) as (figure, plots):
        for plot, (words, _, found) in zip(plots, axes, strict=True):
            plot.set_xlabel(words)
            plot.set_ylabel(metric)
            _scatter(plot, metric, found, direction)
            if is_share(metric):
                in_percent(plot.yaxis)
        figure.tight_layout(w_pad=3)
        for plot, (_, _, found) in zip(plots, axes, strict=True):
            _front_line(plot, found, direction)
            _labels(plot, found, direction)
        against = " and ".join(words for words, _, _ in axes)
        return svg(figure, f"{metric} of {len(rows)} cases against {against}; the front is drawn as a line")


Located = list[tuple[CaseRow, float, float]]
"""Cases with where they stand in a plot: cost and metric."""


def _costs(result: SweepResult) -> list[tuple[str, Callable[[CaseRow], float | None]]]:
    found: list[tuple[str, Callable[[CaseRow], float | None]]] = [("bytes per image", lambda row: row.bytes_per_image)]
    if result.cost.gpu_hours:
        return [*found, ("GPU hours per trial", lambda row: row.gpu_hours)]
    return [*found, ("seconds per trial", lambda row: row.seconds)]


def _located(rows: Sequence[CaseRow], metric: str, cost: Callable[[CaseRow], float | None]) -> Located:
    return [(row, at, row.estimates[metric].mean) for row in rows if (at := cost(row)) is not None]


def _tells(found: Located) -> bool:
    places = [at for _, at, _ in found]
    return len(places) > 1 and max(places) - min(places) > 1e-9 * max(map(abs, places))


def _scatter(plot: Any, metric: str, found: Located, direction: str) -> None:
    """Draw the cases, those that matter on top: no other case is to hide the front or the baseline."""
    set_scale(plot, "x", scale_of([at for _, at, _ in found]))
    ordered = _by_weight(found, direction)
    rest = ordered[MOST_NAMED:]
    plot.plot([at for _, at, _ in rest], [mean for _, _, mean in rest], ".", color=GREY, alpha=0.5, linestyle="")
    for row, at, mean in reversed(ordered[:MOST_NAMED]):
        breaks = row.feasible is False
        if (half := row.estimates[metric].half) and len(found) <= MOST_NAMED:
            plot.vlines(at, mean - half, mean + half, color=_colour(row), linewidth=1, alpha=0.5)
        (dot,) = plot.plot(
            [at], [mean], "o", color=_colour(row), markersize=4 if breaks else 6, fillstyle="none" if breaks else "full"
        )
        tip(dot, f"{row.name}: {estimate_text(metric, row.estimates[metric])} at {at:.4g}")
    plot.margins(x=0.12, y=0.12)


def _colour(row: CaseRow) -> str:
    return GREY if row.is_baseline or row.feasible is False else COLOURS[0]


def _front_of(found: Located, direction: str) -> Located:
    points = {place: (at, mean) for place, (row, at, mean) in enumerate(found) if row.feasible is not False}
    chosen = non_dominated(points, ["minimize", direction])
    return sorted((found[place] for place in chosen), key=lambda each: each[1])


def _front_line(plot: Any, found: Located, direction: str) -> None:
    front = _front_of(found, direction)
    if len(front) > 1:
        xs, ys = [at for _, at, _ in front], [mean for _, _, mean in front]
        plot.step(xs, ys, where="post", color=COLOURS[1], linewidth=1.3, alpha=0.9, zorder=1)


def _by_weight(found: Located, direction: str) -> Located:
    """Return the baseline first, then the front, then the others."""
    front = _points(_front_of(found, direction))
    return sorted(found, key=lambda each: (not each[0].is_baseline, each[0].point not in front))


def _labels(plot: Any, found: Located, direction: str) -> None:
    """Name the front and the baseline, and the others too if they are few; what is not named tells it on hover."""
    ordered = _by_weight(found, direction)
    count = len(found)
    if count > _MOST_LABELS:
        count = len({row.point for row, _, _ in found if row.is_baseline} | _points(_front_of(found, direction)))
    label_points(plot, [(at, mean) for _, at, mean in ordered], [row.name for row, _, _ in ordered][:count])


def _points(found: Located) -> set[str]:
    return {row.point for row, _, _ in found}
