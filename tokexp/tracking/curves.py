"""Loss curves of a run's training stages as one SVG that takes its colours from the page around it."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tokexp.ledger.records import Ledger
from tokexp.ledger.runs import RunRecord
from tokexp.ledger.workspace import Workspace

MOST_POINTS = 400
"""Points that a curve is thinned to."""

INK = "#010203"
"""A colour that stands for the page's text colour and is replaced by it."""

_FONT = "'DejaVu Sans'"
_COLUMNS = 3
_NO_METADATA: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
"""Matplotlib's own block of metadata names addresses, which a self-contained page has no use for."""

Curve = list[tuple[int, float]]


def loss_curves(workspace: Workspace, record: RunRecord) -> dict[str, dict[str, Curve]]:
    """Return stage name to line name (`seed 0`) to (step, loss), for the stages that reported a loss."""
    ledger = Ledger(workspace)
    ledger.refresh()
    found: dict[str, dict[str, Curve]] = {}
    for node in record.nodes:
        metrics = ledger.metrics(node.key)
        curve = [(step, value) for step, value in metrics.get("loss", []) if value - value == 0]
        if len(curve) > 1:
            line = "loss" if node.seed is None else f"seed {node.seed}"
            found.setdefault(node.name, {})[line] = thin(curve, MOST_POINTS)
    return found


def thin(curve: Sequence[tuple[int, float]], most: int) -> Curve:
    """Return at most `most` points, evenly spread, with the first and the last one."""
    if len(curve) <= most:
        return list(curve)
    return [curve[round(index * (len(curve) - 1) / (most - 1))] for index in range(most)]


def draw(curves: Mapping[str, Mapping[str, Curve]]) -> str:
    """Return an SVG element with one small plot per stage."""
    columns = min(_COLUMNS, len(curves))
    rows = -(-len(curves) // columns)
    with page_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.6 * columns, 2.5 * rows))
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat[len(curves) :]:
            axis.set_axis_off()
        for axis, (stage, lines) in zip(axes.flat, curves.items(), strict=False):
            _plot(axis, stage, lines)
        figure.tight_layout()
        return svg_text(figure)


@contextmanager
def page_style() -> Iterator[None]:
    """Set matplotlib up, for the time of a `with`, for figures that take their ink from the page around them.

    Text stands as it is written, a dollar sign being no mathematics; what this machine has no letters for, the page's
    reader may have.
    """
    from matplotlib import rc_context

    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "tokexp", "text.color": INK, "axes.edgecolor": INK,
             "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "font.size": 9,
             "text.parse_math": False}  # fmt: skip
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def svg_text(figure: Any) -> str:
    """Return a figure as an SVG element that names nothing outside it and is inked like the page around it."""
    target = io.StringIO()
    figure.savefig(target, format="svg", transparent=True, metadata=_NO_METADATA)
    text = target.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor").replace(_FONT, "system-ui")


def _plot(axis: Any, stage: str, lines: Mapping[str, Curve]) -> None:
    from matplotlib.ticker import MaxNLocator

    for name, curve in lines.items():
        axis.plot(*zip(*curve, strict=True), label=name, linewidth=1.2)
    axis.set_title(stage, fontsize=10)
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    axis.grid(alpha=0.2, color=INK)
    axis.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        axis.legend(frameon=False, fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
