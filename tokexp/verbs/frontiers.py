"""The verb `report`: of one run or sweep as it is, and of several on one plot of storage policies."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from rich.text import Text

from tokexp.durable import write_atomic
from tokexp.errors import InputError
from tokexp.ledger.runs import load_run
from tokexp.ledger.sweeps import load_sweep
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.report.comparison import means_sweep
from tokexp.report.frontier import Frontier, frontier_sheet, joined, run_frontier, sweep_frontier, with_published
from tokexp.report.page import header, page, section
from tokexp.report.sheets import csv_text, html, markdown
from tokexp.verbs.printing import console, print_json

PICTURES: Final = (".png", ".svg")
"""Endings of a file that is the plot alone."""


def report(
    refs: Sequence[str], workspace: str | Path | None, output: str | Path | None, published: str | None, json: bool
) -> int:
    """Write a report; the ending of `output` decides its form. Returns 0.

    One run or sweep has its own report. Several, a picture (.png, .svg) or `published` ask for the frontier of storage
    policies. Raises InputError for a form that does not exist, and where no policy has a result.
    """
    target = None if output is None else Path(output)
    if len(refs) == 1 and published is None and (target is None or target.suffix.lower() not in PICTURES):
        from tokexp.verbs import showing

        return showing.report(refs[0], workspace, output, json)
    found = resolve_workspace(workspace)
    frontier = joined([_of(found, ref) for ref in dict.fromkeys(refs)])
    if published is not None:
        frontier = with_published(frontier, published)
    if not any(not point.table for point in frontier.points):
        raise InputError("no policy has a result: a run needs stored tokens or images, and an accuracy")
    target = target or Path("frontier.html")
    target = target / "frontier.html" if target.is_dir() else target
    content = _content(frontier, refs, target.suffix.lower())
    try:
        write_atomic(target, content)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}; name another file by --output") from error
    if json:
        print_json({"refs": list(refs), "file": str(target.absolute()), "points": frontier_sheet(frontier).records})
    else:
        console().print(Text(str(target)))
    return 0


def _of(workspace: Workspace, ref: str) -> Frontier:
    if means_sweep(workspace, ref):
        return sweep_frontier(workspace, load_sweep(workspace, ref))
    return run_frontier(workspace, load_run(workspace, ref))


def _content(frontier: Frontier, refs: Sequence[str], ending: str) -> bytes:
    writers: Mapping[str, Callable[[], bytes]] = {
        ".html": lambda: _page(frontier, refs).encode(),
        ".htm": lambda: _page(frontier, refs).encode(),
        ".md": lambda: markdown(frontier_sheet(frontier)).encode(),
        ".csv": lambda: csv_text(frontier_sheet(frontier).records).encode(),
        **{picture: lambda: _picture(frontier, ending) for picture in PICTURES},
    }
    if ending not in writers:
        said = ending or "a file without an ending"
        raise InputError(f"a frontier is written as .html, .csv, .md, .png or .svg, not as {said}")
    return writers[ending]()


def _picture(frontier: Frontier, ending: str) -> bytes:
    from tokexp.report.frontier_figure import frontier_file

    return frontier_file(frontier, ending)


def _page(frontier: Frontier, refs: Sequence[str]) -> str:
    from tokexp.report.frontier_figure import CAPTION, frontier_svg

    facts = [f"{len([point for point in frontier.points if not point.table])} policies of ours", *refs]
    drawn = frontier_svg(frontier)
    figure = f"<figure>{drawn}<figcaption>{escape(CAPTION)}</figcaption></figure>" if drawn else ""
    body = section("Frontier", figure) + section("Policies", html(frontier_sheet(frontier)))
    return page("Storage policies", header("Storage policies", frontier.metric, facts, []) + body, is_broad=True)
