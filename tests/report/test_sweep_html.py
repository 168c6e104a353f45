"""The page of a sweep: one file, whole, nothing to fetch or run, whatever happened to its trials; and it renders."""

import csv
import io
import re
import shutil
import subprocess
import warnings
from base64 import b64decode
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from tests.recorded import workspace_at
from tests.recorded_sweeps import BYTES, TOP1, recorded_search, recorded_sweep
from tests.report.test_html import _Tags
from tokexp.ledger.workspace import Workspace
from tokexp.report.case_figures import curve_figure
from tokexp.report.drawing import COLOURS, GREY
from tokexp.report.sweep_html import sweep_html
from tokexp.report.trials import sweep_result

CASES = {
    "SeiT": {0: 0.70, 1: 0.72, 2: 0.71},
    "color": {0: 0.73, 1: 0.74, 2: 0.735},
    "half": {0: 0.80, 1: "failed", 2: "planned"},
}
SIZES = {"SeiT": 16.0, "color": 12.0, "half": 8.0}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path)


def titles(page: str) -> list[str]:
    return re.findall(r"<h2>([^<]+)</h2>", page)


def assert_self_contained(page: str) -> None:
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert "script" not in tags.names
    assert all(link.startswith("data:") for link in tags.links)
    assert not re.search(r"url\((?!#)|@import", page)
    assert all('aria-label="' in svg for svg in re.findall(r"<svg [^>]*>", page))
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_the_page_of_static_cases_is_whole_and_needs_nothing_else(workspace: Workspace) -> None:
    sweep = recorded_sweep(workspace, CASES, baseline="SeiT", sizes=SIZES, gpus=1)
    page = sweep_html(workspace, sweep)
    assert_self_contained(page)
    assert titles(page) == [
        "Cases", "Results and cost", "Seeds", "Training", "Trials", "Failures", "Cost", "Sweep", "Provenance",
    ]  # fmt: skip
    assert "A recorded sweep for tests." in page
    assert "+2.50 \u00b1 1.24" in page
    assert "0.013 *" in page
    assert "7 done, 1 to do, 1 failed" in page
    assert "GPU hours" in page


def test_failures_come_with_their_logs_and_cannot_become_markup(workspace: Workspace) -> None:
    cases = {"<script>alert(1)</script>": {0: "failed"}, "b": {0: 0.5}}
    page = sweep_html(workspace, recorded_sweep(workspace, cases, spec_text="# <b>bold</b>\nname: '</pre>'\n"))
    assert_self_contained(page)
    assert "<script>" not in page
    assert "RuntimeError: &lt;b&gt;the loss&lt;/b&gt; is not finite" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page


def test_tables_can_be_saved_from_the_page(workspace: Workspace) -> None:
    page = sweep_html(workspace, recorded_sweep(workspace, CASES, baseline="SeiT"))
    links = dict(re.findall(r'download="([^"]+)" href="data:text/csv;base64,([^"]+)"', page))
    assert list(links) == ["ablation-abababab-cases.csv", "ablation-abababab-trials.csv"]
    rows = list(csv.DictReader(io.StringIO(b64decode(links["ablation-abababab-trials.csv"]).decode())))
    assert len(rows) == 9


def test_names_stand_as_they_are_written_whatever_characters_they_have(workspace: Workspace) -> None:
    names = ["$\\frac$", "$a$ $\\foo{$", "$", "<b>x</b>", "\u65e5\u672c", "%s {0} & 'q' \"q\""]
    cases = {name: {0: 0.5 + place / 10, 1: 0.6} for place, name in enumerate(names)}
    sizes = {name: 4.0**place for place, name in enumerate(names)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = sweep_html(workspace, recorded_sweep(workspace, cases, sizes=sizes, baseline="$", metrics=(TOP1, BYTES)))
    assert_self_contained(page)
    drawn = unescape(page[page.index("<h2>Results") : page.index("<h2>Seeds")])
    assert all(f">{name}</text>" in drawn for name in names)
    assert re.findall(r">(10{0,3})</text>", drawn)[:4] == ["1", "10", "100", "1000"], "marks of a logarithmic axis"


def test_a_search_has_its_history_importances_and_slices(workspace: Workspace, tmp_path: Path) -> None:
    page = sweep_html(workspace, recorded_search(workspace, tmp_path, 30))
    assert_self_contained(page)
    found = titles(page)
    assert {"Optimisation history", "Importance of parameters", "Slices"} <= set(found)
    assert "Seeds" not in found
    assert "lr" in page[page.index("<h2>Importance") : page.index("<h2>Slices")]
    assert "best so far" in page


def test_a_search_that_has_just_begun_has_a_page(workspace: Workspace, tmp_path: Path) -> None:
    page = sweep_html(workspace, recorded_search(workspace, tmp_path, 0))
    assert_self_contained(page)
    assert "No trial has begun yet" in page
    assert "Slices" not in titles(page)


def test_a_search_whose_record_cannot_be_read_still_has_a_page(workspace: Workspace, tmp_path: Path) -> None:
    sweep = recorded_search(workspace, tmp_path, 12)
    (workspace.sweeps / sweep.ref / "study.journal").write_text("not a journal\n")
    page = sweep_html(workspace, sweep)
    assert_self_contained(page)
    assert "Cases" in titles(page)


@pytest.mark.parametrize(
    "cases",
    [
        {"a": {0: "planned"}, "b": {0: "planned"}},
        {"a": {0: "failed", 1: "failed"}, "b": {0: "failed", 1: "failed"}},
        {"a": {0: float("nan"), 1: 0.5}, "b": {0: None, 1: float("inf")}},
        {"a": {0: 0.5}},
        {"b": {0: 0.5, 1: 0.6}, "c": {0: "pruned", 1: "stopped"}},
    ],
    ids=["none done", "all failed", "no finite numbers", "one trial", "no baseline"],
)
def test_a_page_comes_of_whatever_there_is(workspace: Workspace, cases) -> None:  # type: ignore[no-untyped-def]
    page = sweep_html(workspace, recorded_sweep(workspace, cases, baseline="a"))
    assert_self_contained(page)
    assert titles(page)[0] == "Cases"
    for case in cases:
        assert f"<td>{case}</td>" in page


def test_learning_curves_are_one_for_what_cases_share_and_one_each_for_what_they_do_not(workspace: Workspace) -> None:
    page = sweep_html(workspace, recorded_sweep(workspace, CASES, baseline="SeiT"))
    figure = page[page.index("<h2>Training") : page.index("<h2>Trials")]
    texts = [unescape(text) for text in re.findall(r"<text[^>]*>([^<]+)</text>", figure)]
    assert "pretrain" in texts
    assert "finetune" in texts
    assert {"SeiT, color", "SeiT", "color", "half"} <= set(texts)


def test_a_baseline_is_grey_and_several_of_them_can_be_told_apart(workspace: Workspace) -> None:
    sweep = recorded_sweep(workspace, CASES, baseline="SeiT")
    result = sweep_result(workspace, sweep)
    both = [replace(row, is_baseline=row.name in ("SeiT", "color")) for row in result.cases]
    single = curve_figure(workspace, sweep, result)
    several = curve_figure(workspace, sweep, replace(result, cases=tuple(both)))
    assert single.count(GREY) > several.count(GREY)
    assert several.count(COLOURS[2]) > single.count(COLOURS[2])


@pytest.mark.slow
def test_a_thousand_trials_make_a_page_that_can_be_used(workspace: Workspace, tmp_path: Path) -> None:
    page = sweep_html(workspace, recorded_search(workspace, tmp_path, 1000))
    assert len(page) < 10_000_000
    assert "<summary>960 more rows</summary>" in page


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_draws_the_figures(workspace: Workspace, tmp_path: Path) -> None:
    from PIL import Image

    file = tmp_path / "page.html"
    file.write_text(sweep_html(workspace, recorded_sweep(workspace, CASES, baseline="SeiT", sizes=SIZES)))
    shot = tmp_path / "page.png"
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1300,2600",
        f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}", file.as_uri(),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    pixels = Image.open(shot).convert("RGB")
    colours = {colour for _, colour in pixels.getcolors(1 << 24) or []}
    # The blue of the cases' dots is on the screen: the figures were drawn.
    assert (0x3B, 0x7D, 0xD8) in colours
