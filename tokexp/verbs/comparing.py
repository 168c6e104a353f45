"""The verbs that set runs and sweeps side by side: compare, leaderboard, and a sweep's report."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from tokexp.durable import write_atomic
from tokexp.errors import InputError
from tokexp.ledger.sweeps import load_sweep
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.report.comparison import all_entries, compare_sheet, entries, leaderboard_sheet
from tokexp.report.sheets import Sheet, csv_text, markdown, render
from tokexp.report.sweep_files import report_files
from tokexp.verbs.printing import console, print_json, say


def compare(
    refs: Sequence[str], workspace: str | Path | None, metric: str | None, output: str | Path | None, json: bool
) -> int:
    """Print runs, sweeps and cases (`SWEEP:CASE`) side by side, each beside its difference to the first. Returns 0.

    metric: the one to show; None for the most telling. output: a file for the table too, .csv or .md. Raises
    InputError for less than two lines to compare.
    """
    found = resolve_workspace(workspace)
    # What is named twice, as a sweep and one of its cases, would be tested against itself.
    lines = list({(entry.ref, entry.name): entry for ref in refs for entry in entries(found, ref)}.values())
    if len(lines) < 2:
        raise InputError("there is nothing to compare: name two runs, or a sweep with several cases")
    known = {name for line in lines for name in line.per_seed}
    if metric is not None and metric not in known:
        raise InputError(f"none of them has {metric}; there are {', '.join(sorted(known)) or 'no results'}")
    sheet = compare_sheet(lines, [] if metric is None else [metric])
    saved = _save(sheet, output)
    if json:
        print_json({"entries": [asdict(line) for line in lines], "rows": list(sheet.records), **saved})
    else:
        console().print(render(sheet))
    return 0


def leaderboard(
    workspace: str | Path | None, metric: str | None, output: str | Path | None, top: int, json: bool
) -> int:
    """Print the best runs and cases of all sweeps in a workspace by a metric (the most common top-1). Returns 0.

    top: places that are printed; a file has all.
    """
    sheet = leaderboard_sheet(all_entries(resolve_workspace(workspace)), metric)
    saved = _save(sheet, output)
    if json:
        print_json({"rows": list(sheet.records)[:top], **saved})
    else:
        console().print(render(sheet, top))
    return 0


def sweep_report(workspace: Workspace, ref: str, output: str | Path | None, json: bool) -> int:
    """Write a sweep's report; the ending of `output` decides: .html, .csv (three files) or .md. Returns 0."""
    sweep = load_sweep(workspace, ref)
    target = Path(output) if output is not None else Path(f"{sweep.ref}.html")
    if target.is_dir():
        target = target / f"{sweep.ref}.html"
    files = report_files(workspace, sweep, target)
    for file, text in files.items():
        _write(file, text)
    names = [str(file.absolute()) for file in files]
    if json:
        print_json({"ref": sweep.ref, "file": names[0], "files": names})
    else:
        for file in files:
            console().print(Text(str(file)))
    return 0


def _save(sheet: Sheet, output: str | Path | None) -> dict[str, str]:
    """Write a table where that was asked for; return what JSON says of it."""
    if output is None:
        return {}
    target = Path(output)
    writers = {".csv": lambda: csv_text(sheet.records), ".md": lambda: markdown(sheet)}
    if target.suffix.lower() not in writers:
        raise InputError(f"a table is written as .csv or .md, not as {target.suffix or 'a file without an ending'}")
    _write(target, writers[target.suffix.lower()]())
    say(f"written to {target}")
    return {"file": str(target.absolute())}


def _write(target: Path, text: str) -> None:
    try:
        write_atomic(target, text.encode())
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}; name another file by --output") from error
