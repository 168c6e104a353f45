"""A sweep's report as files: one HTML page, one Markdown document, or one CSV for each of its tables."""

from pathlib import Path

from tokexp.errors import InputError
from tokexp.ledger.sweeps import Sweep
from tokexp.ledger.workspace import Workspace
from tokexp.report.sheets import csv_text, markdown
from tokexp.report.sweep_sheets import case_sheet, failure_sheet, stage_sheet, trial_sheet
from tokexp.report.trials import sweep_result
from tokexp.report.wording import states_text


def report_files(workspace: Workspace, sweep: Sweep, target: Path) -> dict[Path, str]:
    """Return file to text; the ending of `target` decides: .html, .md or .csv.

    A CSV file holds one table: `x.csv` the cases, and beside it `x.trials.csv` and `x.stages.csv`. Raises InputError
    for another ending.
    """
    ending = target.suffix.lower()
    if ending in {".html", ".htm"}:
        from tokexp.report.sweep_html import sweep_html

        return {target: sweep_html(workspace, sweep)}
    if ending not in {".csv", ".md"}:
        raise InputError(f"a report is written as .html, .csv or .md, not as {ending or 'a file without an ending'}")
    result = sweep_result(workspace, sweep)
    cases, trials, stages = case_sheet(result), trial_sheet(result), stage_sheet(result)
    if ending == ".csv":
        return {
            target: csv_text(cases.records),
            target.with_suffix(".trials.csv"): csv_text(trials.records),
            target.with_suffix(".stages.csv"): csv_text(stages.records),
        }
    shown = [cases, trials, *([failure_sheet(result)] if result.failures else []), stages]
    head = f"# {result.ref}\n\n{states_text(result.states) or 'no trials yet'}\n\n"
    return {target: head + "\n".join(markdown(sheet) for sheet in shown)}
