"""The plot of storage policies: bytes per image on a logarithmic axis, a colour and a marker for each family."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tokexp.report.drawing import COLOURS, GREY, in_percent, label_points, legend_below, panels, set_scale, svg, tip
from tokexp.report.frontier import FAMILIES, Frontier, FrontierPoint, best_of
from tokexp.report.wording import is_share
from tokexp.tracking.curves import INK

MARKERS: Final = ("o", "s", "D", "^", "v", "P", "X", "*")

CAPTION: Final = "Lines: each family's own front. Hollow: published, on other data; compare shapes, not heights."

_STYLE: Final = {word: (COLOURS[place], MARKERS[place]) for place, word in enumerate(("tokens", "jpeg", "resize",
                 "fraction", "c_score", "per_class", "distilled"))}  # fmt: skip
"""A family looks the same in every plot, whichever others are in it."""

_BYTES = "stored bytes per image of the source, everything counted"
_MOST_LABELS = 40
_DPI = 130


def frontier_svg(frontier: Frontier) -> str:
    """Return the plot as an SVG element for a page; empty without at least two points of ours."""
    if len([point for point in frontier.points if not point.table]) < 2:
        return ""
    with _drawn(frontier) as figure:
        return svg(figure, f"{frontier.metric} of {len(frontier.points)} storage policies against bytes per image")


def frontier_file(frontier: Frontier, ending: str) -> bytes:
    """Return the plot as a file of its own, .png or .svg, black on white."""
    with _drawn(frontier) as figure:
        target = io.BytesIO()
        figure.savefig(
            target, format=ending.removeprefix("."), dpi=_DPI, facecolor="white", bbox_inches="tight",
            metadata={"Date": None} if ending == ".svg" else {"Software": None},
        )  # fmt: skip
        content = target.getvalue()
        # Where a page's ink would be, a drawing has black; in a PNG the two look alike.
        return content.replace(INK.encode(), b"#000000") if ending == ".svg" else content


@contextmanager
def _drawn(frontier: Frontier) -> Iterator[Any]:
    """Give the figure: one plot, or ours and the published points beside each other where their bytes do not meet."""
    apart = _are_apart(frontier)
    with panels(2 if apart else 1, 2 if apart else 1, height=4.6) as (figure, plots):
        for place, plot in enumerate(plots):
            shown = [False, True] if not apart else [bool(place)]
            for family in frontier.families:
                for published in reversed(shown):
                    _family(plot, frontier.of(family, published), _STYLE.get(family, (GREY, "h")), published, family)
            set_scale(plot, "x", "log")
            plot.set_xlabel(_BYTES if not place else "stored bytes per image of ImageNet-1k")
            plot.set_ylabel(f"{frontier.metric}, ours" if apart and not place else
                            _table_of(frontier) if apart else frontier.metric)  # fmt: skip
            if is_share(frontier.metric):
                in_percent(plot.yaxis)
            plot.margins(x=0.12, y=0.1)
        figure.tight_layout(w_pad=3)
        legend_below(figure, plots)
        for place, plot in enumerate(plots):
            _label(plot, frontier, published=apart and bool(place))
        yield figure


def _are_apart(frontier: Frontier) -> bool:
    ours = [point.cost for point in frontier.points if not point.table]
    theirs = [point.cost for point in frontier.points if point.table]
    return bool(ours and theirs) and (max(ours) < min(theirs) or max(theirs) < min(ours))


def _table_of(frontier: Frontier) -> str:
    return f"published, {', '.join(dict.fromkeys(point.table for point in frontier.points if point.table))}"


def _label(plot: Any, frontier: Frontier, *, published: bool) -> None:
    """Name our points, those of the front first, or published ones; what finds no room tells it on hover."""
    points = [point for point in frontier.points if bool(point.table) == published]
    ordered = points if published else list(dict.fromkeys([*frontier.front(), *points]))
    label_points(
        plot, [(p.cost, p.value) for p in ordered], [p.label or p.name for p in ordered[:_MOST_LABELS]], size=7.0
    )


def _family(plot: Any, points: tuple[FrontierPoint, ...], look: tuple[str, str], published: bool, family: str) -> None:
    """Draw one family: its own front as a line, each point with its name on hover; published ones are hollow."""
    if not points:
        return
    colour, marker = look
    front = best_of(points)
    plot.plot(
        [point.cost for point in front], [point.value for point in front], color=colour, linewidth=1.1,
        linestyle=":" if published else "-", alpha=0.8, zorder=1,
    )  # fmt: skip
    title = FAMILIES.get(family, family)
    for place, point in enumerate(points):
        if point.half:
            plot.vlines(point.cost, point.value - point.half, point.value + point.half, color=colour, linewidth=1)
        (dot,) = plot.plot(
            [point.cost], [point.value], marker, color=colour, markersize=5 if published else 7, alpha=0.9,
            fillstyle="none" if published else "full", linestyle="",
            label=None if place else f"{title}, published" if published else title,
        )  # fmt: skip
        tip(dot, f"{point.name}: {100 * point.value:.1f} % at {point.cost:,.4g} bytes")
