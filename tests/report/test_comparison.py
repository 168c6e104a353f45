"""Runs and sweeps side by side, leaderboards, and the tables of a sweep on a terminal and in files."""

import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.recorded import recorded_run, run_all, workspace_at
from tests.recorded_sweeps import BYTES, TOP1, recorded_search, recorded_sweep
from tokexp.errors import InputError
from tokexp.ledger.workspace import Workspace
from tokexp.report.comparison import all_entries, compare_sheet, entries, leaderboard_sheet, render_sweep
from tokexp.report.sheets import Sheet, csv_text, html, markdown, render
from tokexp.report.sweep_sheets import case_sheet, failure_sheet, trial_sheet
from tokexp.report.trials import sweep_result

CASES = {
    "SeiT": {0: 0.70, 1: 0.72, 2: 0.71},
    "color": {0: 0.73, 1: 0.74, 2: 0.735},
    "half": {0: 0.80, 1: "failed", 2: "planned"},
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path)


@pytest.fixture
def run_beside(workspace: Workspace) -> str:
    record = recorded_run(workspace, seeds=(0, 1, 2))
    run_all(workspace, record, steps=3)
    return record.ref


def shown(what, width: int = 170) -> str:  # type: ignore[no-untyped-def]
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(what)
    return console.export_text()


def row_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(name))


def test_the_terminal_shows_means_differences_significance_and_failures(workspace: Workspace) -> None:
    text = shown(render_sweep(workspace, recorded_sweep(workspace, CASES, baseline="SeiT")))
    assert "7 done, 1 to do, 1 failed" in text
    assert "71.00 % \u00b1 2.48 (n=3)" in row_of(text, "SeiT")
    assert "baseline" in row_of(text, "SeiT")
    assert "+2.50 \u00b1 1.24   0.013 *" in row_of(text, "color")
    assert "1 done, 1 to do, 1 failed" in row_of(text, "half")
    assert "80.00 % (n=1)" in row_of(text, "half")
    assert "+10.00 (1 of 3 seeds)" in row_of(text, "half")
    assert "finetune: the loss is not finite at step 5" in text
    assert "paired by seed" in text
    assert "without shared stages" in text


def test_cases_that_came_to_the_same_as_another_are_named(workspace: Workspace) -> None:
    result = sweep_result(workspace, recorded_sweep(workspace, CASES, baseline="SeiT"))
    assert not any("run once" in note for note in case_sheet(result).notes)
    merged = [replace(row, also=("first", "second") if row.name == "color" else ()) for row in result.cases]
    notes = case_sheet(replace(result, cases=tuple(merged))).notes
    assert "the same as another, and run once: first (see color), second (see color)" in notes


def test_one_seed_is_said_to_be_one(workspace: Workspace) -> None:
    text = shown(render_sweep(workspace, recorded_sweep(workspace, {"a": {0: 0.5}, "b": {0: 0.6}}, baseline="a")))
    assert "finetune/top1 (n=1)" in text
    assert "+10.00 (n=1)" in row_of(text, "b")
    assert "one seed says nothing about how much training varies" in text
    assert "Holm" not in text


def test_a_difference_without_spread_has_no_p_and_that_is_explained(workspace: Workspace) -> None:
    cases = {"a": {0: 0.5, 1: 0.6}, "b": {0: 0.52, 1: 0.62}}
    text = shown(render_sweep(workspace, recorded_sweep(workspace, cases, baseline="a")))
    assert "+2.00" in row_of(text, "b")
    assert "same in every seed" in text
    assert "*" not in text


@pytest.mark.parametrize("cases", [{}, {"a": {0: "planned"}}, {"a": {0: "failed"}, "b": {0: "failed"}}])
def test_a_sweep_without_results_can_be_shown(workspace: Workspace, cases) -> None:  # type: ignore[no-untyped-def]
    text = shown(render_sweep(workspace, recorded_sweep(workspace, cases, baseline="a")))
    assert text.startswith("ablation-abababab")
    assert ("2 failed" in text) == (len(cases) == 2)


def test_published_values_have_columns_of_their_own(workspace: Workspace) -> None:
    published = {
        "table": "seitpp/table-7", "metric": None, "column": None,
        "cases": {
            "SeiT": {"where": {"coloradapt": False, "tokenadapt": False}, "column": "top1"},
            "color": {"where": {"coloradapt": True, "tokenadapt": False}, "column": "top1"},
        },
    }  # fmt: skip
    sheet = case_sheet(sweep_result(workspace, recorded_sweep(workspace, CASES, baseline="SeiT", published=published)))
    values = dict(zip(sheet.head, zip(*sheet.rows, strict=True), strict=True))
    assert values["published top1"] == ("77.3", "78.3", "-")
    assert values["published to SeiT"] == ("", "+1.0", "")


def test_a_searched_sweep_shows_its_best_points_first_with_their_values(workspace: Workspace, tmp_path: Path) -> None:
    result = sweep_result(workspace, recorded_search(workspace, tmp_path, 12, objectives=1))
    sheet = case_sheet(result)
    assert sheet.head[:5] == ("case", "trials", "codebook_size", "lr", "codec.kind")
    assert sheet.rows[0][0] == result.front[0].name
    means = [result.case(record["point"]).mean("finetune/top1") for record in sheet.records]
    feasible = [result.case(record["point"]).feasible for record in sheet.records]
    kept = [mean for mean, keeps in zip(means, feasible, strict=True) if keeps]
    assert kept == sorted(kept, reverse=True)
    assert means[-1] is None


def test_the_csv_has_full_precision_and_the_trials_all_metrics(workspace: Workspace) -> None:
    result = sweep_result(workspace, recorded_sweep(workspace, CASES, baseline="SeiT"))
    cases = list(csv.DictReader(io.StringIO(csv_text(case_sheet(result).records))))
    color = result.cases[1]
    assert float(cases[1]["finetune/top1 mean"]) == color.mean("finetune/top1")
    assert float(cases[1]["finetune/top1 p_holm"]) == color.against["finetune/top1"].holm
    assert cases[1]["finetune/top1 significant"] == "yes"
    assert cases[0]["baseline"] == "yes"
    trials = list(csv.DictReader(io.StringIO(csv_text(trial_sheet(result).records))))
    assert len(trials) == 9
    assert [float(row["finetune/top1"]) for row in trials[:3]] == [0.70, 0.72, 0.71]
    assert trials[0]["finetune/top5"] == "0.99"
    failed = next(row for row in trials if row["state"] == "failed")
    assert (failed["finetune/top1"], failed["problem"]) == ("", "finetune: the loss is not finite at step 5")


def test_markdown_and_html_keep_names_from_becoming_markup() -> None:
    sheet = Sheet("T", ("a|b", "n"), (("x|y\nz", "1"), ("<b>", "2")), ({}, {}), notes=("a < b",))
    assert markdown(sheet).splitlines()[2:6] == ["| a\\|b | n |", "|---|---:|", "| x\\|y z | 1 |", "| <b> | 2 |"]
    assert "&lt;b&gt;" in html(sheet)
    assert "a &lt; b" in html(sheet)


def test_long_tables_are_folded_and_cut_short_and_say_so() -> None:
    sheet = Sheet("T", ("a",), tuple((f"row {number}",) for number in range(250)), ({},) * 250)
    page = html(sheet, most=100)
    assert page.count("<tr") == 250 + 2
    assert "<summary>150 more rows</summary>" in page
    assert page.index("row 99") < page.index("<details>") < page.index("row 100")
    text = shown(render(sheet, 40))
    assert "and 210 more" in text
    assert "row 40" not in text


def test_runs_and_sweeps_are_compared_with_the_first_by_common_seeds(workspace: Workspace, run_beside: str) -> None:
    recorded_sweep(workspace, CASES, baseline="color")
    found = [*entries(workspace, "ablation"), *entries(workspace, run_beside)]
    assert [entry.name for entry in found] == ["ablation:color", "ablation:SeiT", "ablation:half", run_beside]
    text = shown(render(compare_sheet(found)))
    assert "first" in row_of(text, "ablation:color")
    assert "-2.50 \u00b1 1.24" in row_of(text, "ablation:SeiT")
    assert "+7.00 (1 of 3 seeds)" in row_of(text, "ablation:half")
    assert "92.00 % \u00b1 4.97 (n=3)" in row_of(text, run_beside)
    assert "3 comparisons" not in text
    assert "2 comparisons" in text


def test_the_records_of_a_comparison_have_every_common_metric(workspace: Workspace, run_beside: str) -> None:
    recorded_sweep(workspace, CASES)
    sheet = compare_sheet([*entries(workspace, "ablation:SeiT"), *entries(workspace, run_beside)])
    assert {record["metric"] for record in sheet.records} == {
        "finetune/top1", "finetune/top5", "finetune/loss", "pretrain/loss", "storage/bytes_per_image",
    }  # fmt: skip
    assert all(record["difference n"] is None for record in sheet.records if record["name"] == "ablation:SeiT")


def test_a_case_that_is_not_there_names_the_nearest(workspace: Workspace) -> None:
    recorded_sweep(workspace, CASES)
    with pytest.raises(InputError, match=r"has no case 'colour'; nearest: color"):
        entries(workspace, "ablation:colour")
    with pytest.raises(InputError, match=r"no sweep 'ablatoin'.*nearest: ablation-abababab"):
        entries(workspace, "ablatoin")


def test_entries_without_results_are_named(workspace: Workspace) -> None:
    recorded_sweep(workspace, {"a": {0: 0.5}, "b": {0: "failed"}})
    text = shown(render(compare_sheet(entries(workspace, "ablation"))))
    assert "no results yet: ablation:b" in text
    assert "50.00 %" in text


def test_entries_with_nothing_in_common_are_shown_all_the_same(workspace: Workspace) -> None:
    recorded_sweep(workspace, {"a": {0: "failed"}, "b": {0: "failed"}})
    assert "no metric is common to them" in shown(render(compare_sheet(entries(workspace, "ablation"))))


def test_the_leaderboard_has_the_best_first_of_runs_and_sweeps(workspace: Workspace, run_beside: str) -> None:
    recorded_sweep(workspace, CASES)
    found = all_entries(workspace)
    sheet = leaderboard_sheet(found, None)
    assert [row[1] for row in sheet.rows] == [run_beside, "ablation:half", "ablation:color", "ablation:SeiT"]
    assert sheet.head[2] == "finetune/top1"
    assert sheet.rows[1][2] == "80.00 % (n=1)"
    assert sheet.records[0]["mean"] == pytest.approx(0.92)
    smallest = leaderboard_sheet(found, "storage/bytes_per_image")
    assert smallest.rows[0][1] == run_beside
    assert [record["mean"] for record in smallest.records] == sorted(record["mean"] for record in smallest.records)


def test_a_leaderboard_of_an_unknown_metric_names_those_that_there_are(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="no run or sweep has a result yet"):
        leaderboard_sheet(all_entries(workspace), None)
    recorded_sweep(workspace, CASES, metrics=(TOP1, BYTES))
    with pytest.raises(InputError, match=r"has probe/top1; there are finetune/top1"):
        leaderboard_sheet(all_entries(workspace), "probe/top1")


def test_a_leaderboard_of_nothing_but_nan_says_so(workspace: Workspace) -> None:
    recorded_sweep(workspace, {"a": {0: math.nan}, "b": {0: math.nan}})
    with pytest.raises(InputError, match="finetune/top1 is not a number in any run or sweep"):
        leaderboard_sheet(all_entries(workspace), None)


def test_a_failure_sheet_names_why_and_where(workspace: Workspace) -> None:
    result = sweep_result(workspace, recorded_sweep(workspace, CASES))
    sheet = failure_sheet(result)
    assert len(sheet.rows) == 1
    assert sheet.rows[0][:4] == ("half", "1", "failed", "finetune: the loss is not finite at step 5")
    assert (workspace.attempt(sheet.rows[0][4]) / "log.txt").is_file()
