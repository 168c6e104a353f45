"""The HTML report of a sweep in a real browser: from a file, without a network, without a script that fails."""

from pathlib import Path

import pytest

from tests.browser.chromium import Browser
from tests.recorded import workspace_at
from tests.recorded_sweeps import BYTES, TOP1, recorded_search, recorded_sweep
from tokexp.ledger.sweeps import Sweep
from tokexp.ledger.workspace import Workspace
from tokexp.report.sweep_html import sweep_html

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

EMPTY = """
[...document.querySelectorAll('table, svg, img, figure, h1, h2')]
  .filter(each => !each.closest('details:not([open])'))
  .filter(each => { const box = each.getBoundingClientRect(); return box.width < 2 || box.height < 2 })
  .map(each => each.outerHTML.slice(0, 200))
"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def _open(browser: Browser, workspace: Workspace, sweep: Sweep, folder: Path) -> None:
    file = folder / "report.html"
    file.write_text(sweep_html(workspace, sweep), encoding="utf-8")
    browser.open(file.as_uri())


def _check(browser: Browser) -> None:
    assert browser.errors == []
    assert browser.evaluate(EMPTY) == []
    assert browser.evaluate("[...document.images].filter(image => !image.complete || !image.naturalWidth).length") == 0
    assert browser.evaluate(WIDER) <= 0
    assert browser.evaluate("performance.getEntriesByType('resource').length") == 0


def test_a_report_of_cases_is_drawn_whole(browser: Browser, tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    cases = {"SeiT": {0: 0.7, 1: 0.72, 2: 0.71}, "ColorAdapt": {0: 0.8, 1: 0.81, 2: 0.8}, "both": {0: 0.9, 1: "failed"}}
    sizes = {"SeiT": 9.8, "ColorAdapt": 13.8, "both": 18.2}
    sweep = recorded_sweep(workspace, cases, sizes=sizes, metrics=(TOP1, BYTES), baseline="SeiT", total=9)
    _open(browser, workspace, sweep, tmp_path)
    browser.screenshot(tmp_path / "report.png")
    _check(browser)
    text = browser.text()
    for word in ("ablation", "SeiT", "ColorAdapt", "both", "finetune/top1", "bytes/image", "to SeiT"):
        assert word in text
    assert browser.evaluate("document.querySelectorAll('svg').length") >= 2
    assert browser.evaluate("document.querySelectorAll('table').length") >= 2


def test_a_report_of_a_search_is_drawn_whole(browser: Browser, tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    sweep = recorded_search(workspace, tmp_path, 24)
    _open(browser, workspace, sweep, tmp_path)
    browser.screenshot(tmp_path / "search.png")
    _check(browser)
    assert "tokenizer.codebook_size" in browser.text()
    assert browser.evaluate("document.querySelectorAll('svg').length") >= 3
