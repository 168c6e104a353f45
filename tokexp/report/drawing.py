"""Figures of a report: SVG that takes its ink from the page, tells its content in words, and names points on hover."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from html import escape
from typing import Any, Final, Literal

from tokexp.tracking.curves import INK, page_style, svg_text

COLOURS: Final = ("#3b7dd8", "#e0a030", "#3f9d63", "#c2543d", "#8a63c9", "#2aa7b8", "#d46aa8", "#8c6d46")
"""Colours that can be told apart on a light and on a dark page."""

GREY: Final = "#8a94a0"
"""The colour of what is only there for comparison."""

WIDTH: Final = 9.3
"""Inches that a figure may be wide: the width of the page."""

_TIP = "tip:"


@contextmanager
def panels(count: int, columns: int, height: float = 2.6) -> Iterator[tuple[Any, list[Any]]]:
    """Give a figure and `count` axes in rows of at most `columns`, `height` inches each, styled for the page."""
    with page_style():
        from matplotlib.figure import Figure

        wide = min(columns, count)
        rows = -(-count // wide)
        figure = Figure(figsize=(WIDTH * wide / columns, height * rows))
        grid = figure.subplots(rows, wide, squeeze=False)
        for axis in grid.flat[count:]:
            axis.set_axis_off()
        used = list(grid.flat[:count])
        for axis in used:
            axis.grid(alpha=0.18, color=INK)
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
        yield figure, used


def legend_below(figure: Any, axes: Sequence[Any]) -> None:
    """Put one legend for some axes under the whole figure, where it covers no data; the same name stands once."""
    named: dict[str, Any] = {}
    for axis in axes:
        handles, labels = axis.get_legend_handles_labels()
        named = dict(zip(labels, handles, strict=True)) | named
    columns = max(1, min(4, 120 // max(map(len, named), default=1)))
    figure.legend(
        list(named.values()), list(named), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=columns, frameon=False,
        fontsize=8.5,
    )  # fmt: skip


def svg(figure: Any, said: str) -> str:
    """Return a figure as an SVG element whose alternative text is `said`; ids do not meet those of other figures."""
    from matplotlib import rc_context

    with rc_context({"savefig.bbox": "tight", "savefig.pad_inches": 0.05}):
        text = svg_text(figure)
    own = blake2b(text.encode(), digest_size=4).hexdigest()
    used = set(re.findall(r"""(?:href="|url\()#([^")]+)""", text))
    # Hover texts first: their ids hold any characters.
    text = re.sub(rf'<g id="{_TIP}([^"]*)">', lambda found: f"<g><title>{found[1]}</title>", text)
    text = re.sub(r' id="([^"]*)"', lambda found: f' id="{own}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r"""(href="|url\()#""", rf"\1#{own}-", text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(said)}" ', 1)


def tip(artist: Any, text: str) -> None:
    """Show a text when a pointer rests on an artist."""
    artist.set_gid(_TIP + text)


def in_percent(axis: Any) -> None:
    """Show a vertical axis of shares in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))


def scale_of(values: Sequence[float]) -> str:
    """Return log for positive values that span more than a factor of twenty, else linear."""
    return "log" if values and min(values) > 0 and max(values) / min(values) > 20 else "linear"


def set_scale(plot: Any, which: Literal["x", "y"], scale: str) -> None:
    """Make one axis of a plot linear or log, with plain numbers as its marks: no text here is read as mathematics."""
    from matplotlib.ticker import LogFormatter

    getattr(plot, f"set_{which}scale")(scale)
    if scale == "log":
        own = getattr(plot, f"{which}axis")
        own.set_major_formatter(lambda value, _: f"{value:g}")
        own.set_minor_formatter(LogFormatter(labelOnlyBase=False))


def label_points(axis: Any, points: Sequence[tuple[float, float]], names: Sequence[str], size: float = 8.0) -> int:
    """Write names beside points where no other name or point is covered; return how many found room.

    Names that come first are placed first. The axis must have its limits and its place in the figure by now.
    """
    axis.figure.canvas.draw()
    places = [tuple(axis.transData.transform(point)) for point in points]
    room = axis.get_window_extent()
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    done = 0
    for (x, y), point, name in zip(places, points, names, strict=False):
        box = _free_place(x, y, _extent(name, size, axis.figure.dpi), room, taken)
        if box is not None:
            taken.append(box)
            # In points: a pixel of the canvas is not one of the page.
            shift = [72 / axis.figure.dpi * distance for distance in (box[0] - x, (box[1] + box[3]) / 2 - y)]
            axis.annotate(name, point, shift, textcoords="offset points", fontsize=size, va="center")
            done += 1
    return done


def _extent(name: str, size: float, dpi: float) -> tuple[float, float]:
    return 0.62 * size * len(name) * dpi / 72, 1.3 * size * dpi / 72


Box = tuple[float, float, float, float]


def _free_place(x: float, y: float, extent: tuple[float, float], room: Any, taken: Sequence[Box]) -> Box | None:
    """Return a free box beside a point, in pixels."""
    wide, high = extent
    for left, middle in _beside(wide, high):
        box = (x + left, y + middle - high / 2, x + left + wide, y + middle + high / 2)
        inside = room.x0 <= box[0] and box[2] <= room.x1 and room.y0 <= box[1] and box[3] <= room.y1
        if inside and not any(_meet(box, other) for other in taken):
            return box
    return None


def _beside(wide: float, high: float) -> list[tuple[float, float]]:
    """Return where a box may be put: its left edge and its middle, from the point, the nearest places first."""
    return [
        place
        for gap in (7.0, 16.0)
        for place in (
            (gap, high / 2), (-gap - wide, high / 2), (gap, -high / 2), (-gap - wide, -high / 2),
            (-wide / 2, high / 2 + gap), (-wide / 2, -high / 2 - gap), (gap, 1.5 * high), (-gap - wide, 1.5 * high),
            (gap, -1.5 * high), (-gap - wide, -1.5 * high),
        )
    ]  # fmt: skip


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
