"""Objectives that predict tokens: combinations that cannot work are said, with the reason."""

from typing import Any

import pytest

from tokexp.spec.checks import check
from tokexp.spec.experiment import Experiment

PIXELS: dict[str, Any] = {
    "schema": 1,
    "data": {"kind": "digits"},
    "tokenizer": {"kind": "patch_kmeans", "patch_size": 2},
    "model": {"kind": "vit", "input": "pixels", "stem": {"kind": "patchify", "patch_size": 2}},
    "augment": {"pretrain": [{"kind": "color_jitter"}, {"kind": "pixel_flip"}]},
    "objective": {"kind": "mapet", "cut": 5},
}
KINDS = ["mim", "beit", "pim", "mapet", "cae"]


def found(**changes: Any) -> list[str]:
    spec = Experiment.model_validate({**PIXELS, **changes})
    return [f"{'.'.join(map(str, each.path))}: {each.message}" for each in check(spec)]


def objective(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, **({"blocks": {"smallest": 2}} if kind in ("beit", "cae") else {}), **fields}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_with_a_token_for_every_patch_are_fine(kind: str) -> None:
    assert found(objective=objective(kind)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_stored_tokens_are_fine(kind: str) -> None:
    model = {"kind": "vit", "stem": {"kind": "patchify", "patch_size": 1}}
    assert found(objective=objective(kind), model=model, augment=[]) == []


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_without_a_tokenizer_have_nothing_to_predict(kind: str) -> None:
    assert found(objective=objective(kind), tokenizer=None) == [
        f"tokenizer: missing; {kind} predicts tokens of the pixels"
    ]


def test_the_grids_of_patches_and_tokens_must_agree() -> None:
    (message,) = found(tokenizer={"kind": "patch_kmeans", "patch_size": 1})
    assert message == (
        "model.stem: mapet predicts one token for every patch: these are 4 x 4 patches, and the tokenizer gives "
        "8 x 8 tokens"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_two_streams_need_plain_blocks_and_others_do_not(kind: str) -> None:
    stem = {"kind": "moto", "norm": "layer", "placement": "token", "inner": PIXELS["model"]["stem"], "blocks": [1]}
    messages = found(objective=objective(kind), model={**PIXELS["model"], "stem": stem})
    assert [each.split(":")[0] for each in messages] == (["model.stem.blocks"] if kind in ("pim", "mapet") else [])


def test_patches_that_overlap_are_refused() -> None:
    (message,) = found(model={**PIXELS["model"], "stem": {"kind": "conv4x4"}})
    assert message.startswith("model.stem: mapet needs patches that do not overlap")


@pytest.mark.parametrize(
    ("step", "reason"), [("pixel_rrc", "crops pixels"), ("mixup", "mixes images"), ("token_cutmix", "mixes images")]
)
def test_stored_tokens_cannot_follow_what_moves_pixels(step: str, reason: str) -> None:
    augment = {"pretrain": [{"sometimes": 0.5, "do": [{"kind": "color_jitter"}, {"kind": step}]}]}
    (message,) = found(augment=augment)
    assert message.startswith(f"augment.pretrain.0.do.1: {step} {reason}, and the stored tokens that mapet predicts")
    assert found(augment=augment, objective=objective("mapet", targets="encoded")) == []


def test_a_model_of_tokens_predicts_those_that_it_reads() -> None:
    model = {"kind": "vit", "stem": {"kind": "patchify", "patch_size": 1}}
    (message,) = found(model=model, augment=[], objective=objective("mim", targets="encoded"))
    assert message == "objective.targets: encoded given; this model reads tokens, and these are what mim predicts"


def test_a_cut_must_leave_something_to_predict() -> None:
    assert found(objective=objective("pim", cut=15)) == []
    assert found(objective=objective("pim", cut=16)) == [
        "objective.cut: 16 given; of 16 patches that leaves none to predict"
    ]
    assert found(objective=objective("pim", cut=16, cut_counts_cls=True)) == []


def test_a_block_must_fit_into_what_is_masked() -> None:
    assert found(objective={"kind": "beit"}) == ["objective.blocks.smallest: 16 given; only 6 of 16 patches are masked"]
    assert found(objective={"kind": "cae"}) == ["objective.blocks.smallest: 16 given; only 8 of 16 patches are masked"]


def test_the_heads_of_a_neck_must_divide_its_width() -> None:
    neck = {"width": None, "heads": 7}
    (message,) = found(objective=objective("cae", neck=neck))
    assert message == "objective.neck.heads: heads (7) must divide the encoder's width (192); change one of them"
    assert found(objective=objective("cae", neck={**neck, "heads": 6})) == []


def test_colour_jitter_needs_pixels() -> None:
    model = {"kind": "vit", "stem": {"kind": "patchify", "patch_size": 1}}
    (message,) = found(model=model, objective=objective("mim"), augment=[{"kind": "color_jitter"}])[:1]
    assert "color_jitter works on pixels; this model reads tokens" in message
