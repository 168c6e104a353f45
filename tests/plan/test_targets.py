"""Plans of models that read pixels and predict tokens."""

from typing import Any

import pytest

from tokexp.plan.graph import Plan, StageNode, build_plan
from tokexp.spec.experiment import Experiment

SPEC: dict[str, Any] = {
    "schema": 1,
    "data": {"kind": "digits"},
    "tokenizer": {"kind": "patch_kmeans", "patch_size": 2},
    "model": {
        "kind": "vit", "width": 32, "depth": 1, "heads": 2, "input": "pixels",
        "stem": {"kind": "patchify", "patch_size": 2},
    },
    "objective": {"kind": "mapet", "train": {"steps": 3}},
    "tasks": {"finetune": {"kind": "classify", "train": {"steps": 3}}},
    "evaluate": {"noise": {"kind": "corruption", "name": "gaussian_noise"}},
}  # fmt: skip


def plan(**changes: Any) -> Plan:
    return build_plan(Experiment.model_validate({**SPEC, **changes}))


def stage(found: Plan, name: str) -> StageNode:
    return found.node(found.seeds[0][name])


def test_stored_targets_come_from_the_token_store() -> None:
    found = plan()
    names = {node.key: node.name for node in found.nodes}
    assert list(names.values())[:3] == ["tokenizer", "tokens", "pretrain"]
    assert {role: names[key] for role, key in stage(found, "pretrain").inputs.items()} == {"tokens": "tokens"}
    assert stage(found, "pretrain").payload.tokenizer is None  # type: ignore[attr-defined]


def test_encoded_targets_need_the_tokenizer_and_no_store() -> None:
    found = plan(objective={"kind": "mim", "targets": "encoded"})
    assert [node.kind for node in found.nodes][:2] == ["tokenizer", "pretrain"]
    assert stage(found, "pretrain").inputs == {"tokenizer": found.seeds[0]["tokenizer"]}
    assert stage(found, "pretrain").payload.tokenizer is not None  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["finetune", "finetune/clean", "finetune/noise"])
def test_later_stages_read_pixels_alone(name: str) -> None:
    assert not {"tokens", "tokenizer"} & stage(plan(), name).inputs.keys()


def test_another_tokenizer_is_another_pretraining_and_a_task_from_scratch_stays() -> None:
    tasks = {**SPEC["tasks"], "scratch": {"kind": "classify", "init": "scratch"}}
    other = {"kind": "patch_kmeans", "patch_size": 2, "codebook_size": 8}
    before, after = (dict(plan(tasks=tasks, **more).seeds[0]) for more in ({}, {"tokenizer": other}))
    kept = {name for name in before if before[name] == after[name]}
    assert kept == {"scratch", "scratch/clean", "scratch/noise"}


def test_a_model_of_stored_tokens_has_the_plan_that_it_had() -> None:
    model = {"kind": "vit", "width": 32, "depth": 1, "heads": 2, "stem": {"kind": "patchify", "patch_size": 1}}
    found = plan(model=model)
    assert stage(found, "pretrain").inputs.keys() == {"tokens"}
    assert stage(found, "finetune").inputs.keys() == {"tokens", "pretrain"}


def test_what_came_later_enters_a_key_only_where_it_is_used() -> None:
    relevant = stage(plan(), "pretrain").payload.relevant()
    assert "tokenizer" not in relevant
    assert not {"layer_scale", "rescale"} & relevant["model"].keys()
    scaled = stage(plan(model={**SPEC["model"], "layer_scale": 0.1}), "pretrain").payload.relevant()
    assert scaled["model"]["layer_scale"] == 0.1
