"""Targets, groupings, masks and views: combinations that cannot work are said, with the reason."""

from pathlib import Path
from typing import Any

import pytest

from tokexp.spec.checks import check
from tokexp.spec.experiment import Experiment
from tokexp.spec.reading import read_experiment

PIXELS: dict[str, Any] = {"kind": "vit", "input": "pixels", "stem": {"kind": "patchify", "patch_size": 2}}
TOKENS: dict[str, Any] = {"kind": "vit", "stem": {"kind": "patchify", "patch_size": 1}}
SCRATCH = {"teacher": {"kind": "classify", "init": "scratch"}, "finetune": {"kind": "classify"}}
MOMENTUM = {"kind": "momentum"}
TIMM = {"kind": "timm", "random": True, "patch_size": 2}


def found(objective: dict[str, Any], model: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    spec = {
        "schema": 1, "data": {"kind": "digits"}, "tokenizer": {"kind": "patch_kmeans", "patch_size": 2},
        "model": model or PIXELS, "objective": objective, "tasks": SCRATCH,
    }  # fmt: skip
    given = Experiment.model_validate({**spec, **changes})
    return [f"{'.'.join(map(str, each.path))}: {each.message}" for each in check(given)]


def dtm(**fields: Any) -> dict[str, Any]:
    return {"kind": "dtm", "target": MOMENTUM, "blocks": {"smallest": 2}, **fields}


def teacher(stage: str, **origin: Any) -> dict[str, Any]:
    return {"kind": "teacher", "from": {"stage": stage, **origin}}


BYOL: dict[str, Any] = {"kind": "byol", "views": [{"kind": "color_jitter"}]}
DATA2VEC: dict[str, Any] = {"kind": "data2vec", "blocks": {"smallest": 2}}
BEIT: dict[str, Any] = {"kind": "beit", "blocks": {"smallest": 2}, "terms": [{"kind": "dtm", "target": MOMENTUM}]}


@pytest.mark.parametrize("model", [PIXELS, TOKENS])
def test_what_works_on_pixels_and_on_stored_tokens(model: dict[str, Any]) -> None:
    views = [{"kind": "color_jitter" if model is PIXELS else "emb_noise"}]
    for objective in (
        dtm(), dtm(target=teacher("teacher")), dtm(grouper={"kind": "downsample"}), {"kind": "mae"},
        {"kind": "mae", "dtm": {"target": MOMENTUM}}, {**BYOL, "views": views, "dtm": {}}, BEIT, DATA2VEC,
    ):  # fmt: skip
        assert found(objective, model) == []
    assert found(dtm(target=TIMM)) == []


def test_a_towers_patches_are_those_of_the_model() -> None:
    (message,) = found(dtm(target={**TIMM, "patch_size": 4}))
    assert message == (
        "objective.target.patch_size: patches of 4 pixels are 2 x 2 of an image, and the model has 4 x 4; morphing "
        "needs one for one"
    )
    (message,) = found(dtm(target={**TIMM, "patch_size": None, "model": "vit_small_patch8_224"}))
    assert "patches of 8 pixels are 1 x 1" in message
    assert found(dtm(target={**TIMM, "patch_size": None, "model": "a_name_without_it"})) == []


def test_data2vec_takes_the_mlps_of_plain_blocks_alone() -> None:
    stem = {"kind": "moto", "norm": "layer", "placement": "token", "inner": PIXELS["stem"], "blocks": [1]}
    (message,) = found({**DATA2VEC, "layer": "ffn"}, {**PIXELS, "stem": stem})
    assert message.startswith("objective.layer: ffn given; it is what the MLPs of plain blocks give")
    assert found({**DATA2VEC, "layer": "block"}, {**PIXELS, "stem": stem}) == []


@pytest.mark.parametrize("kind", ["layerwise", "layerwise_kmeans"])
def test_byol_compares_patches_that_its_average_did_not_merge(kind: str) -> None:
    (message,) = found({**BYOL, "dtm": {"grouper": {"kind": kind}}})
    assert message.startswith(f"objective.dtm.grouper.kind: {kind} given; it would merge patches inside the average")


def test_towers_of_timm_read_pixels() -> None:
    (message,) = found(dtm(target=TIMM), TOKENS)
    assert message.startswith("objective.target.kind: timm given; its models read pixels, and this one stored tokens")
    (message,) = found({"kind": "mae", "dtm": {"target": TIMM}}, TOKENS)
    assert message.startswith("objective.dtm.target.kind: timm given")
    (message,) = found({**BEIT, "terms": [{"kind": "dtm", "target": TIMM}]}, TOKENS)
    assert message.startswith("objective.terms.0.target.kind: timm given")


def test_a_teacher_is_a_task_from_scratch() -> None:
    path = "objective.target.from.stage"
    assert found(dtm(target=teacher("pretrain")))[0].startswith(f"{path}: pretrain given; the pre-training cannot be")
    (message,) = found(dtm(target=teacher("techer")))
    assert message.startswith(f"{path}: techer given; there is no task 'techer'")
    assert message.endswith("did you mean teacher?")
    (message,) = found(dtm(target=teacher("finetune")))
    assert message.startswith(f"{path}: finetune starts from the pre-training, whose teacher it is")
    (message,) = found(dtm(target=teacher("teacher", seed=4)))
    assert message == "objective.target.from.seed: 4 given; this experiment has no such seed"


def test_patches_that_overlap_and_too_few_patches_are_refused() -> None:
    for kind in (dtm(), {"kind": "mae"}):
        (message,) = found(kind, {**PIXELS, "stem": {"kind": "conv4x4"}})
        assert message.startswith(f"model.stem: {kind['kind']} needs patches that do not overlap")
        (message,) = found(kind, {**PIXELS, "stem": {"kind": "patchify", "patch_size": 8}})
        assert message.startswith(f"objective.kind: {kind['kind']} on 1 patch(es)")
    assert found(BYOL, {**PIXELS, "stem": {"kind": "conv4x4"}}) == []


def test_blocks_larger_than_what_is_masked_are_refused() -> None:
    assert found(dtm(blocks={"smallest": 16})) == [
        "objective.blocks.smallest: 16 given; only 6 of 16 patches are masked"
    ]


def test_groupings_that_the_patches_do_not_allow_are_refused() -> None:
    (message,) = found(dtm(grouper={"kind": "downsample", "factor": 3}))
    assert message == "objective.grouper.factor: 3 given; squares of that side do not tile 4 x 4 patches"
    (message,) = found(dtm(schedule={"removed": [0.6, 0.8], "iterations": [1, 4]}))
    assert message.startswith("objective.schedule.iterations: 1 step(s) cannot remove a share of 0.6 of 16 tokens")
    assert found(dtm(schedule={"removed": [0.6, 0.8], "iterations": [1, 4], "last_step": "released"})) == []


def test_masks_and_averages_of_data2vec_must_fit_the_model() -> None:
    (message,) = found({"kind": "data2vec"})
    assert message == "objective.blocks.smallest: 16 given; only 10 of 16 patches are masked"
    (message,) = found({**DATA2VEC, "top_blocks": 13})
    assert message == "objective.top_blocks: 13 given; the model has 12 blocks"
    (message,) = found(DATA2VEC, {**PIXELS, "stem": {"kind": "conv4x4"}})
    assert message.startswith("model.stem: data2vec needs patches that do not overlap")


def test_views_are_needed_and_leave_patches_where_they_are_if_these_are_compared() -> None:
    (message,) = found({"kind": "byol"})
    assert message == "objective.views: missing; without steps both views of byol are the same image"
    crop = {**BYOL, "views": [{"sometimes": 0.5, "do": [{"kind": "pixel_rrc"}]}]}
    assert found(crop) == []
    (message,) = found({**crop, "dtm": {}})
    assert message.startswith("objective.views.0.do.0: pixel_rrc moves patches, and dtm compares them at equal places")
    (message,) = found({**BYOL, "views": [{"kind": "color_jitter"}, {"kind": "token_rrc"}]})
    assert message.startswith("objective.views.1: token_rrc does not work on pixels")


def test_a_term_needs_an_encoder_of_all_patches_and_an_objective() -> None:
    (message,) = found({"kind": "mae", "terms": BEIT["terms"]})
    assert message.endswith("mae has a place for it: write objective.dtm")
    (message,) = found({"kind": "mapet", "cut": 5, "terms": BEIT["terms"]})
    assert message.endswith("mapet cannot have it")
    tasks = {"train": {"kind": "classify", "terms": BEIT["terms"]}}
    assert found(dtm(), tasks=tasks)[0] == "tasks.train.terms.0: dtm is a term of an objective; a task has no target"
    (message,) = found({**BEIT, "terms": BEIT["terms"] * 2})
    assert message.startswith("objective.terms.1: dtm is given twice")


def test_another_experiments_file_is_seen_from_the_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("other.yaml", "elsewhere.yaml"):
        (tmp_path / name).write_text(
            "schema: 1\ndata: {kind: digits}\nmodel: {kind: vit, input: pixels}\nobjective: {kind: supervised}\n"
        )
    (tmp_path / "here").mkdir()
    text = """\
schema: 1
data: {kind: digits}
model: {kind: vit, input: pixels, stem: {kind: patchify, patch_size: 2}}
objective:
  kind: dtm
  blocks: {smallest: 2}
  target: {kind: teacher, from: {experiment: ../other.yaml, stage: pretrain}}
"""
    (tmp_path / "here" / "student.yaml").write_text(text)
    spec: Any = read_experiment(tmp_path / "here" / "student.yaml").experiment.objective
    assert spec.target.origin.experiment == str(tmp_path / "other.yaml")
    given = ["objective.target.from.experiment=elsewhere.yaml"]
    spec = read_experiment(tmp_path / "here" / "student.yaml", given).experiment.objective
    assert spec.target.origin.experiment == "elsewhere.yaml"
