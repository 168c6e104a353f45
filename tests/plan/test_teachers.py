"""Plans of objectives that learn from another network: its stages come first, and its key decides."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tokexp.errors import InputError, SpecError
from tokexp.plan.graph import Plan, StageNode, build_plan
from tokexp.spec.experiment import Experiment

MODEL: dict[str, Any] = {
    "kind": "vit", "width": 32, "depth": 1, "heads": 2, "input": "pixels",
    "stem": {"kind": "patchify", "patch_size": 2},
}  # fmt: skip
TASKS: dict[str, Any] = {
    "teacher": {"kind": "classify", "init": "scratch", "train": {"steps": 3}},
    "finetune": {"kind": "classify", "train": {"steps": 3}},
}
OTHER: dict[str, Any] = {
    "schema": 1, "data": {"kind": "digits"}, "model": {**MODEL, "width": 48},
    "objective": {"kind": "supervised", "train": {"steps": 2}}, "seeds": [5, 6],
}  # fmt: skip


def plan(target: dict[str, Any], **changes: Any) -> Plan:
    objective = {"kind": "dtm", "blocks": {"smallest": 2}, "target": target, "train": {"steps": 3}}
    spec = {"schema": 1, "data": {"kind": "digits"}, "model": MODEL, "objective": objective, "tasks": TASKS}
    return build_plan(Experiment.model_validate({**spec, **changes}), strict=changes.get("strict", True))


def teacher(stage: str = "teacher", **origin: Any) -> dict[str, Any]:
    return {"kind": "teacher", "from": {"stage": stage, **origin}}


def stage(found: Plan, name: str, seed: int = 0) -> StageNode:
    return found.node(found.seeds[seed][name])


def other(folder: Path, **changes: Any) -> str:
    file = folder / "other.yaml"
    file.write_text(yaml.safe_dump({**OTHER, **changes}))
    return str(file)


def test_a_task_from_scratch_comes_before_the_student_and_is_planned_once() -> None:
    found = plan(teacher())
    assert [node.name for node in found.nodes][:2] == ["teacher", "pretrain"]
    student = stage(found, "pretrain")
    assert student.inputs == {"downstream": found.seeds[0]["teacher"]}
    assert student.payload.target.model.width == 32  # type: ignore[attr-defined]
    assert len(found.nodes) == 5


def test_all_seeds_learn_from_the_first_seeds_teacher_unless_one_is_named() -> None:
    both = plan(teacher(), seeds=[3, 4])
    assert {stage(both, "pretrain", seed).inputs["downstream"] for seed in (3, 4)} == {both.seeds[3]["teacher"]}
    named = plan(teacher(seed=4), seeds=[3, 4])
    assert stage(named, "pretrain", 3).inputs["downstream"] == named.seeds[4]["teacher"]


def test_a_changed_teacher_is_another_student() -> None:
    keys = []
    for steps in (3, 4):
        tasks = {**TASKS, "teacher": {**TASKS["teacher"], "train": {"steps": steps}}}
        keys.append(plan(teacher(), tasks=tasks).seeds[0]["pretrain"])
    assert keys[0] != keys[1]


def test_another_experiments_stage_joins_the_graph(tmp_path: Path) -> None:
    found = plan(teacher("pretrain", experiment=other(tmp_path)))
    first, student = found.nodes[0], stage(found, "pretrain")
    assert (first.name, first.kind, first.seed) == ("from/pretrain", "pretrain", 5)
    assert student.inputs == {"pretrain": first.key}
    assert student.payload.target.model.width == 48  # type: ignore[attr-defined]
    alone = build_plan(Experiment.model_validate({**OTHER, "seeds": (5, 6)}))
    assert first.key == alone.seeds[5]["pretrain"]
    moved = other(tmp_path, name="moved")
    assert plan(teacher("pretrain", experiment=moved)).seeds == found.seeds


def test_values_are_laid_over_another_experiment(tmp_path: Path) -> None:
    laid = {"model.width": 64, "model.stem": {"kind": "frozen", "patch_size": 2}, "name": "no"}
    found = plan(teacher("pretrain", experiment=other(tmp_path), set=laid))
    model = stage(found, "pretrain").payload.target.model  # type: ignore[attr-defined]
    assert (model.width, model.stem.kind) == (64, "frozen")


def test_a_wrong_value_laid_over_another_experiment_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"model\.widht: unknown field; did you mean width"):
        plan(teacher("pretrain", experiment=other(tmp_path), set={"model.widht": 64}))


def test_only_what_the_teacher_needs_of_another_experiment_is_planned(tmp_path: Path) -> None:
    found = plan(
        teacher("big", experiment=other(tmp_path, tasks={"big": TASKS["teacher"], "small": TASKS["finetune"]}))
    )
    assert [node.name for node in found.nodes if node.name.startswith("from/")] == ["from/big"]


def test_stages_that_train_nothing_and_other_inputs_are_refused(tmp_path: Path) -> None:
    file = other(tmp_path)
    with pytest.raises(InputError, match=r"trains no encoder in a stage 'pretran'.*did you mean pretrain"):
        plan(teacher("pretran", experiment=file))
    with pytest.raises(InputError, match="has no seed 0; its seeds are 5 or 6"):
        plan(teacher("pretrain", experiment=file, seed=0))
    tokens = {"kind": "vit", "width": 32, "depth": 1, "heads": 2, "stem": {"kind": "patchify", "patch_size": 1}}
    tokenizer = {"kind": "patch_kmeans", "patch_size": 2}
    with pytest.raises(InputError, match="trains an encoder of pixels"):
        plan(teacher("pretrain", experiment=file), model=tokens, tokenizer=tokenizer)
    coarse = other(tmp_path, model=tokens, tokenizer={**tokenizer, "codebook_size": 8})
    with pytest.raises(InputError, match="another tokenizer's tokens"):
        plan(teacher("pretrain", experiment=coarse), model=tokens, tokenizer=tokenizer)
    same = other(tmp_path, model=tokens, tokenizer=tokenizer)
    joined = plan(teacher("pretrain", experiment=same), model=tokens, tokenizer=tokenizer)
    assert stage(joined, "pretrain").inputs.keys() == {"tokens", "pretrain"}


def test_a_teacher_that_merges_its_patches_is_refused(tmp_path: Path) -> None:
    swin = {"kind": "swin", "width": 16, "depths": [1], "heads": [1], "input": "pixels", "stem": MODEL["stem"]}
    with pytest.raises(InputError, match="trains a swin in pretrain, which keeps no single patches; teach by a vit"):
        plan(teacher("pretrain", experiment=other(tmp_path, model=swin)))


def test_experiments_that_teach_each_other_are_refused(tmp_path: Path) -> None:
    circle = {"kind": "dtm", "blocks": {"smallest": 2}, "target": teacher("pretrain", experiment="other.yaml")}
    file = other(tmp_path, objective=circle)
    with pytest.raises(InputError, match="takes its teacher from itself"):
        plan(teacher("pretrain", experiment=file))


def test_the_content_of_a_weights_file_decides_and_not_its_place(tmp_path: Path) -> None:
    keys = []
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)
        keys.append(plan({"kind": "timm", "weights": str(tmp_path / name)}).seeds[0]["pretrain"])
    assert keys[0] == keys[1] != keys[2]
    with pytest.raises(InputError, match=r"target\.weights: .*absent"):
        plan({"kind": "timm", "weights": str(tmp_path / "absent.pt")})


def test_a_stage_without_a_target_has_the_key_that_it_had() -> None:
    found = plan(teacher(), objective={"kind": "mae"})
    assert "target" not in stage(found, "pretrain").payload.relevant()


def test_a_weights_file_that_is_written_again_at_once_is_another_student(tmp_path: Path) -> None:
    file, keys = tmp_path / "a.pt", []
    for content in (b"1", b"2", b"3", b"1"):
        file.write_bytes(content)
        keys.append(plan({"kind": "timm", "weights": str(file)}).seeds[0]["pretrain"])
    assert keys[0] == keys[3]
    assert len(set(keys)) == 3
