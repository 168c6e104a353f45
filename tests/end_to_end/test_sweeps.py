"""Every shipped sweep validates, plans anywhere, says what it is, and finds its published numbers."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tokexp.plan.sweep import SweepPlan, build_sweep_plan
from tokexp.report.published import published_value
from tokexp.spec.stages import DownstreamStage, PretrainStage
from tokexp.spec.sweep_reading import ReadSweep, read_sweep

ROOT = Path(__file__).parents[2]
SWEEPS = ROOT / "sweeps"
FILES = sorted(file for file in SWEEPS.rglob("*.yaml") if file.parent.name != "base")
NAMES = [str(file.relative_to(SWEEPS)) for file in FILES]
TABLES = ["table_2", "table_6", "table_7", "table_a"]
UNPRINTED = {"SeiT"}
"""Points of table A that the printed table does not have: its notes name SeiT as the point of reference."""


def planned(name: str) -> tuple[ReadSweep, SweepPlan]:
    read = read_sweep(SWEEPS / name)
    return read, build_sweep_plan(read, strict=False)


def points_of(plan: SweepPlan) -> list[str]:
    return list(dict.fromkeys(trial.point.case for trial in plan.trials))


def test_the_tables_are_there_at_both_sizes_and_the_two_searches() -> None:
    tables = {f"{folder}/{table}.yaml" for folder in ("seitpp", "paper/seitpp") for table in TABLES}
    assert tables | {"storage_frontier.yaml", "lr_search.yaml"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_validates_and_plans_without_its_data(name: str) -> None:
    read, plan = planned(name)
    if read.sweep.searched:
        assert read.sweep.budget.trials is not None
        assert not plan.trials
    else:
        assert len(plan.trials) == len(points_of(plan)) * len(read.sweep.seeds)
        assert plan.plan.nodes[-1].kind == "evaluate"


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_it_begins_with_a_lab_card(file: Path) -> None:
    card = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    text = "\n".join(card)
    schema = re.search(r"\$schema=(\S+)", card[0])
    assert schema is not None
    assert (file.parent / schema[1]).resolve() == ROOT / "docs" / "schema-sweep.json"
    assert re.search(r"^# Paper: .*arXiv", text, re.MULTILINE)
    assert re.search(r"\d\d\.\d", text), "the published number"
    assert re.search(r"^# Cost: .*\d", text, re.MULTILINE)
    command = re.search(r"^# Run: tokexp sweep (\S+)", text, re.MULTILINE)
    assert command is not None
    assert ROOT / command[1] == file


def test_names_are_used_once() -> None:
    names = Counter(read_sweep(file).sweep.name for file in FILES)
    assert max(names.values()) == 1


@pytest.mark.parametrize("folder", ["seitpp", "paper/seitpp"])
@pytest.mark.parametrize("table", TABLES)
def test_the_published_value_stands_beside_every_case(folder: str, table: str) -> None:
    read, plan = planned(f"{folder}/{table}.yaml")
    published = read.sweep.published
    assert published is not None
    assert published.table == f"seitpp/{table.replace('_', '-')}"
    values = {point: published_value(published, point) for point in points_of(plan)}
    missing = {point for point, value in values.items() if value is None}
    assert missing == (UNPRINTED if table == "table_a" else set())
    assert all(20 < value < 90 for value in values.values() if value is not None)


@pytest.mark.parametrize("table", TABLES)
def test_both_sizes_of_a_table_print_the_same_numbers_in_the_same_order(table: str) -> None:
    printed = []
    for folder in ("seitpp", "paper/seitpp"):
        read, plan = planned(f"{folder}/{table}.yaml")
        assert read.sweep.published is not None
        printed.append([published_value(read.sweep.published, point) for point in points_of(plan)])
        assert read.sweep.baseline == "SeiT"
    assert printed[0] == printed[1]


@pytest.mark.parametrize(
    ("table", "stages"),
    [
        ("table_7", {"tokenizer": 1, "tokens": 1, "adapt": 1, "downstream": 20, "evaluate": 20}),
        ("table_a", {"tokenizer": 1, "tokens": 1, "adapt": 5, "downstream": 30, "evaluate": 30}),
    ],
)
def test_cases_share_what_they_do_not_change(table: str, stages: dict[str, int]) -> None:
    _, plan = planned(f"seitpp/{table}.yaml")
    assert Counter(node.kind for node in plan.plan.nodes) == stages


def test_a_budget_shares_one_pretraining_set_of_tokens_among_its_cases() -> None:
    read, plan = planned("seitpp/table_2.yaml")
    kinds = Counter(node.kind for node in plan.plan.nodes)
    seeds = len(read.sweep.seeds)
    assert (kinds["tokens"], kinds["adapt"], kinds["pretrain"]) == (5, 5, 2 * 5 * seeds)


@pytest.mark.parametrize("folder", ["seitpp", "paper/seitpp"])
@pytest.mark.parametrize("table", ["table_2", "table_6"])
def test_every_phase_is_as_long_with_few_images_as_with_many(folder: str, table: str) -> None:
    _, plan = planned(f"{folder}/{table}.yaml")
    payloads = [node.payload for node in plan.plan.nodes]
    phases = [
        each.task.train for each in payloads if isinstance(each, DownstreamStage) and each.task.kind == "classify"
    ]
    phases += [each.objective.train for each in payloads if isinstance(each, PretrainStage)]
    assert len(phases) >= len(plan.trials)
    assert all(phase.steps is not None for phase in phases)


def test_the_learning_rate_search_chooses_by_images_held_out_of_training() -> None:
    read, _ = planned("lr_search.yaml")
    assert [metric.name for metric in read.sweep.metrics] == ["train/val_top1"]
    assert read.sweep.pruner.kind != "none"
    assert read.sweep.pruner.metric == "val_top1"
    task = read.experiment({"tasks.train.train.lr": 1e-3}).tasks["train"]
    assert task.kind == "classify"
    assert task.validation is not None
