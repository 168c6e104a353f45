"""A run's numbers: means and deviations over seeds, storage in full, and tables of them."""

import csv
import io
import statistics
from pathlib import Path

import pytest
from rich.console import Console

from tests.recorded import ACCOUNTING, finish_stage, recorded_run, run_all, start_attempt, workspace_at
from tokexp.ledger.runs import RunRecord
from tokexp.ledger.workspace import Workspace
from tokexp.report.results import render, result, value_text
from tokexp.report.table import as_csv, as_markdown


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Workspace, RunRecord]:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0, 1, 4))
    run_all(workspace, record, steps=3)
    return workspace, record


def _shown(workspace: Workspace, record: RunRecord) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render(result(workspace, record)))
    return console.export_text()


def test_means_and_deviations_are_over_the_seeds(finished: tuple[Workspace, RunRecord]) -> None:
    found = result(*finished)
    values = [0.9, 0.92, 0.98]
    assert found["per_seed"]["finetune/top1"] == pytest.approx({"0": 0.9, "1": 0.92, "4": 0.98})
    assert found["metrics"]["finetune/top1"] == pytest.approx(sum(values) / 3)
    assert found["sd"]["finetune/top1"] == pytest.approx(statistics.stdev(values))


def test_a_test_on_clean_images_is_the_tasks_own_number_and_others_keep_their_name(
    finished: tuple[Workspace, RunRecord],
) -> None:
    names = set(result(*finished)["metrics"])
    assert {"finetune/top1", "finetune/noise/top1", "storage/bytes_per_image", "pretrain/loss"} <= names
    assert not any("clean" in name for name in names)


def test_the_storage_counts_every_byte(finished: tuple[Workspace, RunRecord]) -> None:
    storage = result(*finished)["storage"]
    parts = sum(storage[name] for name in ("indices", "index", "labels", "codebook", "header"))
    assert parts == storage["total"] == ACCOUNTING["total"]
    assert storage["share_of_raw"] == pytest.approx(17339 / 1257 / 64)


def test_the_table_says_over_how_many_seeds(finished: tuple[Workspace, RunRecord]) -> None:
    text = _shown(*finished)
    assert "93.33 % \u00b1 4.16 (n=3)" in text
    assert "21.6 %" in text


def test_one_seed_is_said_to_be_one(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0,))
    run_all(workspace, record, steps=3)
    assert "90.00 % (n=1)" in _shown(workspace, record)


def test_a_run_that_is_not_finished_shows_what_there_is_and_what_is_missing(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0,))
    log = start_attempt(workspace, record.nodes[0], "20260101-000000-a")
    finish_stage(workspace, record.nodes[0], log, "20260101-000000-a")
    text = _shown(workspace, record)
    assert "4 of 5 stages are not done" in text
    assert "13.79" in text


def test_the_stages_carry_state_time_and_numbers(finished: tuple[Workspace, RunRecord]) -> None:
    stages = result(*finished)["stages"]
    assert [stage["state"] for stage in stages] == ["done"] * len(finished[1].nodes)
    assert {stage["seconds"] for stage in stages} == {12.5}
    assert stages[1]["metrics"] == {"loss": 0.5}


def test_the_csv_has_every_value_in_full_precision(finished: tuple[Workspace, RunRecord]) -> None:
    found = result(*finished)
    lines = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert len(lines) == sum(len(values) for values in found["per_seed"].values())
    assert all(float(line["value"]) == found["per_seed"][line["metric"]][line["seed"]] for line in lines)


def test_the_markdown_table_has_a_line_for_each_metric(finished: tuple[Workspace, RunRecord]) -> None:
    text = as_markdown(result(*finished))
    assert "| finetune/top1 | 93.33 % \u00b1 4.16 (n=3) |" in text
    assert "| in all | 17,339 | 13.79 |" in text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("a/top1", 0.5, "50.00 %"), ("a/loss", 0.123456, "0.1235"), ("a/bytes", 123456.7, "123,457")],
)
def test_values_are_written_as_people_read_them(name: str, value: float, text: str) -> None:
    assert value_text(name, value) == text
