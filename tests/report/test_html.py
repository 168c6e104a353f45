"""The report: one file, complete, with nothing to fetch and nothing to run, whatever names and values hold."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.recorded import recorded_run, run_all, workspace_at
from tokexp.ledger.runs import RunRecord, save_run
from tokexp.ledger.workspace import Workspace
from tokexp.report.html import report_html
from tokexp.report.page import lab_card
from tokexp.tracking.curves import loss_curves, thin


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Workspace, RunRecord]:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace)
    run_all(workspace, record, steps=30)
    return workspace, record


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"src", "href"} and str(value)[0] != "#"]
        if tag not in {"meta", "img", "br", "path", "use"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"path", "use"}:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(finished: tuple[Workspace, RunRecord]) -> None:
    page = report_html(*finished, pictures=False)
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert "script" not in tags.names
    assert all(link.startswith("data:") for link in tags.links)
    assert not re.search(r"url\((?!#)|@import", page)


def test_the_page_shows_results_storage_curves_stages_spec_and_provenance(
    finished: tuple[Workspace, RunRecord],
) -> None:
    page = report_html(*finished, pictures=False)
    for title in ("Results", "Storage", "Training", "Stages", "Experiment", "Provenance"):
        assert f"<h2>{title}</h2>" in page
    assert "91.00 % \u00b1 1.41 (n=2)" in page
    assert "21.6 % of the raw pixels" in page
    assert "c0ffee with uncommitted changes" in page
    assert "A recorded run for tests" in page


def test_text_from_specs_cannot_become_markup(finished: tuple[Workspace, RunRecord]) -> None:
    workspace, record = finished
    evil = record.model_copy(update={"spec_text": "# <script>alert(1)</script>\nname: '</pre><b>'\n"})
    save_run(workspace, evil)
    page = report_html(workspace, evil, pictures=False)
    assert "<script>" not in page
    assert "</pre><b>" not in page


def test_a_run_without_any_result_still_has_a_page(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    page = report_html(workspace, recorded_run(workspace), pictures=False)
    assert "No stage with a result is done yet" in page
    assert "0 of 9 stages done" in page


def test_the_lab_card_is_the_comment_at_the_top_without_the_editors_line() -> None:
    text = "# yaml-language-server: $schema=x\n# A claim.\n#\n# Cost: little.\nschema: 1\n# not this\n"
    assert lab_card(text) == ["A claim.", "", "Cost: little."]


def test_curves_are_read_per_stage_and_seed(finished: tuple[Workspace, RunRecord]) -> None:
    curves = loss_curves(*finished)
    assert {stage: sorted(lines) for stage, lines in curves.items()} == {
        "pretrain": ["seed 0", "seed 1"],
        "finetune": ["seed 0", "seed 1"],
    }
    assert [step for step, _ in curves["pretrain"]["seed 1"]] == list(range(1, 31))


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    curve = [(step, float(step)) for step in range(10_001)]
    thinned = thin(curve, 400)
    assert len(thinned) == 400
    assert (thinned[0], thinned[-1]) == (curve[0], curve[-1])
