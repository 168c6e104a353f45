"""A sweep's result: rows of trials and cases, differences to the baseline, the front, costs, and what is missing."""

import json
import math
from pathlib import Path
from statistics import fmean

import pytest

from tests.recorded import workspace_at
from tests.recorded_sweeps import BYTES, TOP1, recorded_search, recorded_sweep
from tokexp.ledger.outputs import DONE
from tokexp.ledger.workspace import Workspace
from tokexp.report.cases import Tried, case_rows
from tokexp.report.trials import SweepResult, sweep_result

BASE = {0: 0.70, 1: 0.72, 2: 0.71}
BETTER = {0: 0.73, 1: 0.74, 2: 0.735}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path)


def result_of(workspace: Workspace, cases, **given) -> SweepResult:  # type: ignore[no-untyped-def]
    return sweep_result(workspace, recorded_sweep(workspace, cases, **given))


def named(result: SweepResult):  # type: ignore[no-untyped-def]
    return {case.name: case for case in result.cases}


def test_a_case_has_the_mean_over_its_seeds_and_the_paired_difference_to_the_baseline(workspace: Workspace) -> None:
    from scipy import stats

    found = named(result_of(workspace, {"SeiT": BASE, "color": BETTER}, baseline="SeiT"))
    assert found["color"].mean("finetune/top1") == pytest.approx(fmean(BETTER.values()))
    assert found["color"].estimates["finetune/top1"].n == 3
    against = found["color"].against["finetune/top1"]
    expected = stats.ttest_rel(list(BETTER.values()), list(BASE.values()))
    assert against.difference.p == pytest.approx(expected.pvalue)
    assert against.difference.mean == pytest.approx(0.025)
    assert against.significant is True
    assert found["SeiT"].is_baseline
    assert found["SeiT"].against == {}


def test_p_values_are_corrected_over_the_cases_of_the_sweep(workspace: Workspace) -> None:
    noisy = {0: 0.75, 1: 0.71, 2: 0.72}
    found = named(result_of(workspace, {"SeiT": BASE, "color": BETTER, "noisy": noisy}, baseline="SeiT"))
    color, other = (found[name].against["finetune/top1"] for name in ("color", "noisy"))
    assert color.difference.p is not None
    assert other.difference.p is not None
    assert color.difference.p < other.difference.p
    assert color.holm == pytest.approx(2 * color.difference.p)
    assert other.holm == pytest.approx(other.difference.p)
    assert (color.significant, other.significant) == (True, False)


def test_a_trial_has_the_metrics_of_all_its_stages(workspace: Workspace) -> None:
    assert result_of(workspace, {"a": {0: 0.9}}).trials[0].metrics == {
        "finetune/top1": 0.9, "finetune/top5": 0.99, "finetune/loss": 0.3, "pretrain/loss": 0.5,
        "storage/bytes_per_image": 16.0,
    }  # fmt: skip


def test_trials_that_did_not_finish_enter_no_mean_and_are_counted_apart(workspace: Workspace) -> None:
    cases = {
        "SeiT": BASE, "half": {0: 0.8, 1: "failed", 2: "running"}, "cut": {0: "pruned", 1: "pruned", 2: "stopped"},
        "later": dict.fromkeys(range(3), "planned"),
    }  # fmt: skip
    result = result_of(workspace, cases, baseline="SeiT")
    found = named(result)
    assert found["half"].estimates["finetune/top1"].n == 1
    assert found["half"].against["finetune/top1"].difference.unpaired == (1, 2)
    assert found["half"].states == {"done": 1, "failed": 1, "planned": 1}
    assert found["cut"].estimates == found["later"].estimates == {}
    assert result.states == {"done": 4, "failed": 1, "pruned": 2, "stopped": 1, "planned": 4}
    assert [(row.trial.case, row.trial.state) for row in result.failures] == [("half", "failed"), ("cut", "stopped")]
    assert result.failures[0].problem == "finetune: the loss is not finite at step 5"
    # A trial that was pruned keeps what its finished stages found.
    assert next(row for row in result.trials if row.trial.state == "pruned").metrics["pretrain/loss"] == 0.5


def test_shared_stages_are_divided_among_the_trials_that_use_them(workspace: Workspace) -> None:
    # Two cases, two seeds: tokens 10 s for 4 trials, a pre-training of 100 s for 2, two stages of 10 s for each alone.
    result = result_of(workspace, {"a": {0: 0.1, 1: 0.2}, "b": {0: 0.3, 1: 0.4}}, gpus=2)
    for row in result.trials:
        assert row.seconds == pytest.approx(10 / 4 + 100 / 2 + 20)
        assert row.whole.seconds == pytest.approx(130)
        assert row.gpu_hours == pytest.approx(2 * row.seconds / 3600)
    assert sum(row.seconds for row in result.trials) == pytest.approx(result.cost.seconds) == pytest.approx(290)
    assert result.undivided.seconds == pytest.approx(4 * 130)
    assert [(row.name, row.stages, row.trials) for row in result.stages] == [
        ("tokens", 1, 4), ("pretrain", 2, 4), ("finetune", 4, 4), ("finetune/clean", 4, 4),
    ]  # fmt: skip


def test_several_metrics_have_a_front(workspace: Workspace) -> None:
    cases = {"best": {0: 0.9}, "small": {0: 0.8}, "worse": {0: 0.79}, "twin": {0: 0.8}, "none": {0: "failed"}}
    sizes = {"best": 30.0, "small": 10.0, "worse": 12.0, "twin": 10.0}
    result = result_of(workspace, cases, sizes=sizes, metrics=(TOP1, BYTES))
    assert [case.name for case in result.front] == ["best", "small", "twin"]


def test_with_one_metric_the_front_is_the_best(workspace: Workspace) -> None:
    result = result_of(workspace, {"a": {0: 0.7}, "b": {0: 0.9}, "c": {0: math.nan}})
    assert [case.name for case in result.front] == ["b"]


def test_points_that_break_a_bound_are_not_on_the_front(workspace: Workspace) -> None:
    frozen = {"sweep": {"constraints": [{"metric": "storage/bytes_per_image", "at_most": 20}]}}
    cases = {"large": {0: 0.9}, "small": {0: 0.8}, "open": {0: "running"}}
    result = result_of(workspace, cases, sizes={"large": 30.0, "small": 10.0}, frozen=frozen)
    assert [(case.name, case.feasible) for case in result.cases] == [("large", False), ("small", True), ("open", None)]
    assert [case.name for case in result.front] == ["small"]
    assert "1 of 3 points break a bound (storage/bytes_per_image at most 20)" in result.remarks


def test_cases_in_a_grid_are_compared_within_their_cell(workspace: Workspace) -> None:
    frozen = {"sweep": {"cases": {"SeiT": {}, "SeiT long": {}}}}
    cases = {
        "SeiT fraction=1": {0: 0.5, 1: 0.5}, "SeiT fraction=0.5": {0: 0.3, 1: 0.3},
        "SeiT long fraction=1": {0: 0.6, 1: 0.7}, "SeiT long fraction=0.5": {0: 0.31, 1: 0.33},
    }  # fmt: skip
    found = named(result_of(workspace, cases, baseline="SeiT", frozen=frozen))
    assert found["SeiT fraction=0.5"].is_baseline
    assert found["SeiT long fraction=1"].against["finetune/top1"].difference.mean == pytest.approx(0.15)
    assert found["SeiT long fraction=0.5"].against["finetune/top1"].difference.mean == pytest.approx(0.02)


def test_published_values_stand_beside_by_the_names_of_the_cases(workspace: Workspace) -> None:
    published = {"table": "seitpp/table-1", "column": "top1"}
    result = result_of(workspace, {"SeiT": {0: 0.7}, "SeiT++": {0: 0.8}, "mine": {0: 0.9}}, published=published)
    assert {name: case.published for name, case in named(result).items()} == {
        "SeiT": {"top1": 74.0}, "SeiT++": {"top1": 77.8}, "mine": {},
    }  # fmt: skip
    assert any("seitpp/table-1" in remark for remark in result.remarks)


def test_a_published_table_that_is_not_there_is_told_and_spoils_nothing(workspace: Workspace) -> None:
    result = result_of(workspace, {"a": {0: 0.7}}, published={"table": "seitpp/table-99"})
    assert result.cases[0].published == {}
    assert any("no published values" in remark for remark in result.remarks)


@pytest.mark.parametrize(
    ("cases", "remark"),
    [
        ({"SeiT": {0: "failed", 1: "failed"}, "a": {0: 0.5, 1: 0.6}}, "the baseline SeiT has no finished trial"),
        ({"SeiT": {0: 0.5}, "a": {0: None}}, "finetune/top1 is missing in 1 of 2 finished trials"),
        ({"SeiT": {0: 0.5}, "a": {0: math.nan}}, "finetune/top1 is not finite in 1 of 2 finished trials"),
    ],
)
def test_what_is_missing_is_told(workspace: Workspace, cases, remark: str) -> None:  # type: ignore[no-untyped-def]
    result = result_of(workspace, cases, baseline="SeiT")
    assert any(remark in each for each in result.remarks)
    assert named(result)["a"].against.get("finetune/top1") is None


def test_a_baseline_that_no_case_is_leaves_no_differences(workspace: Workspace) -> None:
    result = result_of(workspace, {"a": {0: 0.5}, "b": {0: 0.6}}, baseline="gone")
    assert not any(case.against for case in result.cases)
    assert any("gone" in remark for remark in result.remarks)


def test_a_sweep_without_any_trial_has_an_empty_result(workspace: Workspace) -> None:
    result = result_of(workspace, {})
    assert (result.trials, result.cases, result.front, result.failures, result.states) == ((), (), (), (), {})
    assert result.cost.seconds == 0.0


def test_an_output_that_was_lost_is_a_missing_number_and_no_error(workspace: Workspace) -> None:
    sweep = recorded_sweep(workspace, {"a": {0: 0.5}, "b": {0: 0.6}})
    node = next(node for node in sweep.nodes.values() if node.name == "finetune/clean")
    (workspace.output(node.kind, node.key) / DONE).unlink()
    result = sweep_result(workspace, sweep)
    assert {case.name: case.mean("finetune/top1") for case in result.cases} == {"a": None, "b": 0.6}
    assert "finetune/top1 is missing in 1 of 2 finished trials" in result.remarks


def test_the_result_is_json_ready_and_whole(workspace: Workspace) -> None:
    result = result_of(workspace, {"SeiT": BASE, "a": {0: "failed", 1: 0.6, 2: math.nan}}, baseline="SeiT")
    found = json.loads(json.dumps(result.as_json(), default=str))
    assert found["failures"] == [result.failures[0].trial.id]
    assert found["front"] == [named(result)["SeiT"].point]
    assert [row["trial"]["id"] for row in found["trials"]] == [row.trial.id for row in result.trials]


def test_the_order_of_trials_changes_nothing(workspace: Workspace) -> None:
    sweep = recorded_sweep(
        workspace, {"SeiT": BASE, "color": BETTER, "x": {0: 0.1, 1: 0.2, 2: "failed"}}, baseline="SeiT"
    )
    tried = [Tried(row.trial, row.metrics, row.seconds, 0.0) for row in sweep_result(workspace, sweep).trials]
    assert case_rows(sweep.record, tried) == case_rows(sweep.record, list(reversed(tried)))


def test_points_of_a_search_are_named_by_their_numbers(workspace: Workspace, tmp_path: Path) -> None:
    result = sweep_result(workspace, recorded_search(workspace, tmp_path, 12))
    assert [case.name for case in result.cases][:2] == ["trial 0", "trial 1"]
    assert result.states == {"done": 10, "pruned": 1, "failed": 1}
    assert result.front
    assert all(case.feasible for case in result.front)
