"""A sweep as one HTML file that needs nothing else: its cases side by side, figures, costs, failures, and the spec."""

import base64
import time

import yaml

from tokexp.errors import TokexpError
from tokexp.launch.base import LOG_FILE
from tokexp.ledger.sweeps import Sweep
from tokexp.ledger.workspace import Workspace
from tokexp.report import sheets
from tokexp.report.case_figures import curve_figure, seed_figure
from tokexp.report.frontier import frontier_sheet, sweep_frontier
from tokexp.report.frontier_figure import CAPTION, frontier_svg
from tokexp.report.page import folded, header, lab_card, page, provenance, section, verbatim
from tokexp.report.pareto import pareto_figure
from tokexp.report.quantities import span
from tokexp.report.search_figures import search_figures
from tokexp.report.sheets import Sheet
from tokexp.report.sweep_sheets import case_sheet, failure_sheet, stage_sheet, trial_sheet
from tokexp.report.trials import SweepResult, TrialRow, sweep_result
from tokexp.report.wording import states_text

MOST_ROWS = 100
"""Cases that are shown before the others are folded away."""

MOST_BEST = 25
"""The same for the points of a search, where the best come first."""

MOST_TRIALS = 40
"""The same for trials."""

MOST_LOGS = 20
"""Failed trials whose logs are shown."""

_LOG_LINES = 40
_LONG_SPEC = 6000
_MOST_CSV = 1_000_000
"""Bytes of a table up to which it can be saved from the page."""


def sweep_html(workspace: Workspace, sweep: Sweep) -> str:
    """Return the page of a sweep, as far as it has come."""
    result = sweep_result(workspace, sweep)
    sections = [
        section("Cases", _cases(result)),
        section("Results and cost", _figure(pareto_figure(result), _PARETO)),
        section("Storage policies", _policies(workspace, sweep, result)),
        section("Seeds", _figure(seed_figure(result), _SEEDS)),
        _search(workspace, sweep) if result.searched else "",
        section("Training", _figure(curve_figure(workspace, sweep, result), _CURVES)),
        section("Trials", _saved(result, trial_sheet(result), MOST_TRIALS) if result.trials else ""),
        section("Failures", _failures(workspace, result)),
        section("Cost", sheets.html(stage_sheet(result)) if result.stages else ""),
        section("Sweep", _spec(sweep)),
        section("Provenance", _provenance(sweep)),
    ]
    return page(result.ref, _header(sweep, result) + "".join(sections), is_broad=True)


_PARETO = "Each dot is a case, with its 95 % interval over seeds. The line is the front: nothing is better and cheaper."
_SEEDS = "Dots: seeds. Bars: mean and 95 % interval. Dashed: the baseline's mean."
_CURVES = "Lines: mean over seeds. Bands: from the least to the largest seed. The best cases and the baseline."


def _policies(workspace: Workspace, sweep: Sweep, result: SweepResult) -> str:
    """Return the frontier where cases store in different ways, or the published table has stored bytes."""
    frontier = sweep_frontier(workspace, sweep, result)
    if len(frontier.families) < 2:
        return ""
    drawn = _figure(frontier_svg(frontier), CAPTION)
    return drawn and drawn + folded("As a table", sheets.html(frontier_sheet(frontier)))


def _figure(drawn: str, caption: str) -> str:
    return f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>" if drawn else ""


def _header(sweep: Sweep, result: SweepResult) -> str:
    record, git = sweep.record, sweep.record.provenance.get("git") or {}
    seeds = ", ".join(str(seed) for seed in record.seeds)
    facts = [
        states_text(result.states) or "no trials yet",
        f"{len(result.cases):,} {'points' if record.searched else 'cases'}",
        f"seed{'s' if len(record.seeds) > 1 else ''} {seeds}",
        f"{span(result.cost.seconds)} of computing",
        *([f"{result.cost.gpu_hours:.3g} GPU hours"] if result.cost.gpu_hours else []),
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(record.created)),
        *([f"commit {git['commit'][:10]}{' with changes' if git.get('dirty') else ''}"] if git.get("commit") else []),
    ]
    return header(record.name, record.ref, facts, lab_card(record.spec_text))


def _cases(result: SweepResult) -> str:
    if not result.cases:
        return "<p>No trial has begun yet.</p>"
    return _saved(result, case_sheet(result), MOST_BEST if result.searched else MOST_ROWS)


def _saved(result: SweepResult, sheet: Sheet, most: int) -> str:
    """Return a table with a link that saves it as CSV."""
    content = sheets.csv_text(sheet.records).encode()
    if len(content) > _MOST_CSV:
        return sheets.html(sheet, most)
    name = f"{result.ref}-{sheet.title.lower()}.csv"
    data = base64.b64encode(content).decode()
    link = f'<a class="save" download="{name}" href="data:text/csv;base64,{data}">save as CSV</a>'
    return sheets.html(sheet, most) + link


def _search(workspace: Workspace, sweep: Sweep) -> str:
    try:
        figures = search_figures(workspace, sweep.record)
    except TokexpError as error:
        return section("Search", sheets.note(f"the search cannot be shown: {error}"))
    return "".join(section(each.title, _figure(each.svg, each.caption)) for each in figures)


def _failures(workspace: Workspace, result: SweepResult) -> str:
    if not result.failures:
        return ""
    logs = [_log(workspace, row) for row in result.failures[:MOST_LOGS] if row.attempt is not None]
    return sheets.html(failure_sheet(result)) + "".join(logs)


def _log(workspace: Workspace, row: TrialRow) -> str:
    assert row.attempt is not None
    try:
        text = (workspace.attempt(row.attempt) / LOG_FILE).read_text(errors="replace")
    except OSError:
        return ""
    lines = text.splitlines()[-_LOG_LINES:]
    title = f"log of {row.attempt} ({row.trial.case or row.trial.id}, seed {row.trial.seed})"
    return folded(title, verbatim("\n".join(lines))) if lines else ""


def _spec(sweep: Sweep) -> str:
    record = sweep.record
    parts = [folded("As asked", verbatim(record.spec_text), is_open=len(record.spec_text) < _LONG_SPEC)]
    for title, name in (("As resolved", "sweep"), ("Its experiment", "experiment")):
        if name in record.frozen:
            resolved = yaml.safe_dump(record.frozen[name], sort_keys=False, allow_unicode=True)
            parts.append(folded(title, verbatim(resolved)))
    return "".join(parts)


def _provenance(sweep: Sweep) -> str:
    record = sweep.record
    return provenance(record.provenance, {"spec file": record.spec_file, "spec hash": record.spec_hash})
