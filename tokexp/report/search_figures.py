"""Figures of a search: how it got better, which parameters mattered, and what each value gave."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from tokexp.ledger.sweeps import SweepRecord, sweep_folder
from tokexp.ledger.workspace import Workspace
from tokexp.plan.sweep import expand
from tokexp.report.drawing import COLOURS, GREY, in_percent, legend_below, panels, scale_of, set_scale, svg, tip
from tokexp.report.results import value_text
from tokexp.report.wording import is_share, plain_text, short_paths
from tokexp.search.analysis import history, importances, read_rows, slices
from tokexp.search.records import SearchRow
from tokexp.search.space import Space
from tokexp.spec.searching import Dimension, FloatRange, IntRange
from tokexp.spec.sweep import SweepSpec
from tokexp.spec.sweep_reading import thaw

MOST_SLICES: Final = 9
"""Parameters whose slices are drawn."""

_DECADES = 50
_MARGIN = 0.05
_MOST_DOTS = 1000
_MOST_TIPS = 300
_MOST_WORDS = 8
_LONGEST_WORD = 24

Row = Mapping[str, Any]


class SearchFigure(NamedTuple):
    """A figure with its title and what has to be known to read it."""

    title: str
    svg: str
    caption: str


_HISTORY = "Dots: points, later ones darker; hollow ones break a bound. Line: the best so far. Marks: ended early."
_IMPORTANCE = "Each parameter's share in reaching the best values, as Optuna's PED-ANOVA finds it."
_SLICES = "The first metric over each parameter; later points are darker, hollow ones break a bound."


def search_figures(workspace: Workspace, record: SweepRecord) -> list[SearchFigure]:
    """Return history, importances and slices of a search as far as it has come; without what there is nothing of yet.

    Raises TokexpError if the search cannot be read.
    """
    read = thaw(record.frozen)
    sweep = read.sweep
    static = sweep.cases or sweep.grid or sweep.zip
    cases = tuple(point.case for point in expand(read)) if static else ()
    rows = read_rows(sweep_folder(workspace, record.ref), sweep, cases)
    found = (
        SearchFigure("Optimisation history", history_figure(history(rows, sweep), sweep), _HISTORY),
        SearchFigure("Importance of parameters", _importances(rows, sweep, cases), _IMPORTANCE),
        SearchFigure("Slices", slice_figure(slices(rows), sweep.metrics[0].name, sweep.space), _SLICES),
    )
    return [figure for figure in found if figure.svg]


def _importances(rows: Sequence[SearchRow], sweep: SweepSpec, cases: Sequence[str]) -> str:
    return importance_figure(importances(rows, sweep, Space(sweep, cases)))


def history_figure(rows: Sequence[Row], sweep: SweepSpec) -> str:
    """Return each metric over the points in the order in which they were asked for, with the best so far.

    rows: as `tokexp.search.analysis.history` gives them. Points that were pruned or failed are marks at the bottom;
    those that break a bound are hollow. Empty if no point has a value.
    """
    told = [row for row in rows if row["same_as"] is None]
    names = [metric.name for metric in sweep.metrics if any(metric.name in row["metrics"] for row in told)]
    if not names:
        return ""
    with panels(len(names), 2 if len(names) > 1 else 1, height=3.2) as (figure, axes):
        for axis, metric in zip(axes, names, strict=True):
            _history(axis, told, metric)
        figure.tight_layout(w_pad=2.5)
        legend_below(figure, axes)
        return svg(figure, f"{' and '.join(names)} over {len(told)} points, with the best so far")


def _history(axis: Any, rows: Sequence[Row], metric: str) -> None:
    from matplotlib.ticker import MaxNLocator

    having = [row for row in rows if metric in row["metrics"]]
    _dots(axis, having, [row["number"] for row in having], [row["metrics"][metric] for row in having], metric)
    best = [(row["number"], row["best"][metric]) for row in rows if metric in row["best"]]
    if best:
        axis.step(*zip(*best, strict=True), where="post", color=COLOURS[1], linewidth=1.4, label="best so far")
    for state, colour in (("pruned", GREY), ("failed", COLOURS[3])):
        numbers = [row["number"] for row in rows if row["state"] == state]
        if numbers:
            low = axis.get_xaxis_transform()
            axis.plot(numbers, [0.02] * len(numbers), "|", color=colour, label=state, transform=low)
    axis.set_xlabel("point")
    axis.set_ylabel(metric)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    if is_share(metric):
        in_percent(axis.yaxis)


def slice_figure(rows: Sequence[Row], metric: str, space: Mapping[str, Dimension]) -> str:
    """Return a metric over each parameter that varies, later points darker; empty without any.

    rows: as `tokexp.search.analysis.slices` gives them. A range of `space` is drawn whole, as evenly as it is searched.
    """
    by_path: dict[str, list[Row]] = {}
    for row in rows:
        if row["metric"] == metric:
            by_path.setdefault(row["path"], []).append(row)
    varied = {path: own for path, own in by_path.items() if len({plain_text(row["value"]) for row in own}) > 1}
    shown = dict(list(varied.items())[:MOST_SLICES])
    if not shown:
        return ""
    names = short_paths(list(shown))
    with panels(len(shown), 3 if len(shown) > 2 else 2, height=2.7) as (figure, axes):
        for axis, (path, own) in zip(axes, shown.items(), strict=True):
            _slice(axis, own, metric, space.get(path))
            axis.set_xlabel(names[path])
            axis.set_ylabel(metric)
            if is_share(metric):
                in_percent(axis.yaxis)
        figure.tight_layout(w_pad=2)
        return svg(figure, f"{metric} over each of {len(shown)} parameters: {', '.join(shown)}")


def _slice(axis: Any, rows: Sequence[Row], metric: str, searched: Dimension | None) -> None:
    values = [row["value"] for row in rows]
    results = [row["result"] for row in rows]
    if isinstance(searched, (FloatRange, IntRange)):
        _range(axis, searched)
        _dots(axis, rows, values, results, metric)
        return
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    if numeric and len(set(values)) > _MOST_WORDS:
        set_scale(axis, "x", scale_of(values))
        _dots(axis, rows, values, results, metric)
        return
    # A few values, numbers or not, stand side by side, so that each can be read.
    words = [plain_text(value) for value in (sorted(set(values)) if numeric else values)]
    words = list(dict.fromkeys(words if numeric else sorted(words)))
    places = [words.index(plain_text(value)) for value in values]
    _dots(axis, rows, places, results, metric)
    slanted = max(map(len, words)) * len(words) > 30
    names = [word if len(word) <= _LONGEST_WORD else f"{word[: _LONGEST_WORD - 3]}..." for word in words]
    axis.set_xticks(range(len(words)), names, rotation=25 if slanted else 0, ha="right" if slanted else "center")
    axis.set_xlim(-0.5, len(words) - 0.5)


def _range(axis: Any, searched: FloatRange | IntRange) -> None:
    """Prepare an axis for all values of a range, with a margin beyond its bounds."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    low, high = float(searched.low), float(searched.high)
    if searched.log:
        margin = (high / low) ** _MARGIN
        set_scale(axis, "x", "log")
        axis.set_xlim(low / margin, high * margin)
        axis.xaxis.set_minor_formatter(NullFormatter())
        if high / low > _DECADES:
            axis.xaxis.set_major_locator(LogLocator(numticks=6))
        else:  # Too short for powers of ten to be marks enough.
            ticks = dict.fromkeys(float(f"{low * (high / low) ** (part / 3):.2g}") for part in range(4))
            axis.set_xticks(list(ticks), [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
        return
    margin = (high - low) * _MARGIN
    axis.set_xlim(low - margin, high + margin)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=isinstance(searched, IntRange)))


def _dots(axis: Any, rows: Sequence[Row], xs: Sequence[float], ys: Sequence[float], metric: str) -> None:
    """Draw a dot for each point, later ones darker, those that break a bound hollow; named if they are few."""
    last = max((row["number"] for row in rows), default=0) or 1
    step = max(1, -(-len(rows) // _MOST_DOTS))
    for row, x, y in list(zip(rows, xs, ys, strict=True))[::step]:
        (dot,) = axis.plot(
            [x], [y], "o", color=COLOURS[0], markersize=4.5, alpha=0.35 + 0.6 * row["number"] / last,
            fillstyle="full" if row["feasible"] else "none", markeredgewidth=0 if row["feasible"] else 0.8,
        )  # fmt: skip
        if len(rows) <= _MOST_TIPS:
            tip(dot, f"trial {row['number']}: {value_text(metric, y)}")


def importance_figure(found: Mapping[str, Mapping[str, float]]) -> str:
    """Return metric to path to its share in the best values as bars, the most important on top; empty without any."""
    having = {metric: values for metric, values in found.items() if values}
    if not having:
        return ""
    names = short_paths(list(dict.fromkeys(path for values in having.values() for path in values)))
    most = max(len(values) for values in having.values())
    with panels(len(having), 2, height=0.9 + 0.28 * most) as (figure, axes):
        for axis, (metric, values) in zip(axes, having.items(), strict=True):
            ordered = sorted(values.items(), key=lambda pair: pair[1])
            axis.barh([names[path] for path, _ in ordered], [share for _, share in ordered], color=COLOURS[0])
            for place, (_, share) in enumerate(ordered):
                axis.annotate(f"{share:.2f}", (share, place), (4, 0), textcoords="offset points", va="center")
            axis.set_xlim(0, 1.15 * max(share for _, share in ordered) or 1)
            axis.set_title(metric, fontsize=10)
            axis.grid(visible=False, axis="y")
        figure.tight_layout(w_pad=2.5)
        return svg(figure, f"importance of each parameter for {' and '.join(having)}")
