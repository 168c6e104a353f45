from pathlib import Path
from typing import Any

import pytest

from tokexp.plan.graph import Plan, build_plan
from tokexp.spec.experiment import Experiment

SPEC: dict[str, Any] = {
    "schema": 1,
    "data": {"kind": "digits"},
    "tokenizer": {"kind": "patch_kmeans"},
    "model": {"kind": "vit", "width": 32, "depth": 1, "heads": 2, "stem": {"kind": "conv2x2"}},
    "augment": [{"kind": "token_adapt"}],
    "objective": {"kind": "mtm", "train": {"steps": 3}},
    "tasks": {"finetune": {"kind": "classify", "train": {"steps": 3}}, "probe": {"kind": "probe"}},
    "evaluate": {"noise": {"kind": "corruption", "name": "gaussian_noise"}},
}


def plan(**changes: Any) -> Plan:
    return build_plan(Experiment.model_validate({**SPEC, **changes}))


def by_name(found: Plan, seed: int = 0) -> dict[str, str]:
    return dict(found.seeds[seed])


def test_a_full_experiment_has_every_stage_after_its_inputs() -> None:
    found = plan()
    names = [node.name for node in found.nodes]
    assert names[:4] == ["tokenizer", "tokens", "adapt", "pretrain"]
    done: set[str] = set()
    for node in found.nodes:
        assert set(node.inputs.values()) <= done
        done.add(node.key)


def test_a_clean_evaluation_is_always_there() -> None:
    assert {"finetune/clean", "finetune/noise", "probe/clean"} <= by_name(plan()).keys()


def test_another_fine_tuning_rate_keeps_all_earlier_stages() -> None:
    tasks = {**SPEC["tasks"], "finetune": {"kind": "classify", "train": {"steps": 3, "lr": 0.5}}}
    before, after = by_name(plan()), by_name(plan(tasks=tasks))
    kept = {name for name in before if before[name] == after[name]}
    assert kept == {"tokenizer", "tokens", "adapt", "pretrain", "probe", "probe/clean", "probe/noise"}


def test_seeds_share_the_stages_that_do_not_use_them() -> None:
    found = plan(seeds=[0, 1])
    first, second = by_name(found, 0), by_name(found, 1)
    assert {name for name in first if first[name] == second[name]} == {"tokenizer", "tokens", "adapt"}
    assert len(found.nodes) == len(found.keys())


def test_two_tasks_that_come_to_the_same_are_one_stage() -> None:
    tasks = {"a": {"kind": "probe"}, "b": {"kind": "probe"}}
    found = by_name(plan(tasks=tasks))
    assert found["a"] == found["b"]


def test_pixels_need_no_tokens() -> None:
    model = {**SPEC["model"], "input": "pixels", "stem": {"kind": "patchify", "patch_size": 2}}
    found = plan(model=model, tokenizer=None, augment=[], objective=None)
    assert {node.kind for node in found.nodes} == {"downstream", "evaluate"}


def test_a_task_from_scratch_does_not_wait_for_the_pretraining() -> None:
    tasks = {"scratch": {"kind": "classify", "init": "scratch"}}
    found = plan(tasks=tasks)
    assert "pretrain" not in found.node(by_name(found)["scratch"]).inputs


def test_fine_tuning_an_own_table_keeps_the_pretrainings_dropout() -> None:
    def dropout(**objective: Any) -> float:
        found = plan(objective={**SPEC["objective"], **objective})
        return float(found.node(by_name(found)["finetune"]).payload.input_dropout)  # type: ignore[attr-defined]

    assert dropout(preset="released") == 0.1
    assert dropout(preset="released", input_dropout=0.3) == 0.3
    assert dropout(preset="paper") == 0.0


def test_resources_and_names_do_not_change_keys() -> None:
    other = plan(name="other", resources={"default": {"cpus": 7}})
    assert by_name(other) == by_name(plan())


def test_missing_data_can_be_planned_but_is_marked(tmp_path: Path) -> None:
    data = {"kind": "image_folder", "root": str(tmp_path / "none"), "image_size": 8}
    spec = Experiment.model_validate({**SPEC, "data": data})
    found = build_plan(spec, strict=False)
    assert found.nodes[0].fingerprint == "absent"


def test_unknown_keys_are_key_errors() -> None:
    with pytest.raises(KeyError):
        plan().node("none")
