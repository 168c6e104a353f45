"""Relative positions: what they do not go with is said, and what they go with is not refused."""

from typing import Any

import pytest

from tests.spec.test_check_dtm import DATA2VEC, MOMENTUM, PIXELS, dtm, found, teacher
from tokexp.spec.models import VitSpec


def relative(positions: str = "relative_both") -> dict[str, Any]:
    return {**PIXELS, "positions": positions}


@pytest.mark.parametrize("positions", ["relative_shared", "relative_blocks", "relative_both"])
def test_objectives_over_all_patches_take_them(positions: str) -> None:
    for objective in (
        {"kind": "mim"}, {"kind": "beit", "blocks": {"smallest": 2}}, {"kind": "supervised"}, dtm(),
    ):  # fmt: skip
        assert found(objective, relative(positions)) == []


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ({"kind": "mapet"}, "mapet orders the patches"),
        ({"kind": "pim"}, "pim orders the patches"),
        ({"kind": "mae"}, "mae shows the encoder some patches alone"),
        ({"kind": "cae", "blocks": {"smallest": 2}, "neck": {"width": None}}, "cae shows the encoder some patches"),
        (DATA2VEC, "data2vec runs the blocks of the average one by one"),
    ],
)
def test_others_are_told_why_not(objective: dict[str, Any], reason: str) -> None:
    (message,) = found(objective, relative())
    assert message.startswith(f"model.positions: relative_both given; {reason}")
    assert message.endswith("which needs absolute")


def test_merging_between_the_averages_blocks_is_refused() -> None:
    (message,) = found(dtm(grouper={"kind": "layerwise"}, target=MOMENTUM), relative())
    assert "the grouper layerwise merges patches between the average's blocks" in message


@pytest.mark.parametrize("grouper", ["layerwise", "layerwise_kmeans"])
def test_merging_between_a_teachers_or_the_models_own_blocks_is_refused(grouper: str) -> None:
    taught = dtm(grouper={"kind": grouper}, target=teacher("teacher"))
    (message,) = found(taught, relative("relative_blocks"))
    assert f"relative_blocks given; the grouper {grouper} merges patches between the teacher's blocks" in message
    tests = {"patches": {"kind": "spatial_inconsistency", "grouper": {"kind": grouper}}}
    (message,) = found({"kind": "mim"}, relative(), evaluate=tests)
    assert f"the grouper {grouper} merges patches between the model's blocks" in message
    assert found(taught, PIXELS) == found({"kind": "mim"}, PIXELS, evaluate=tests) == []


def test_the_default_leaves_stage_keys_as_they_were() -> None:
    plain = VitSpec.model_validate(PIXELS)
    assert "positions" not in plain.relevant()
    assert VitSpec.model_validate(relative()).relevant()["positions"] == "relative_both"


def test_weights_are_counted() -> None:
    base = {"kind": "vit", "size": "base", "input": "pixels", "stem": {"kind": "patchify"}}
    counts = {
        positions: VitSpec.model_validate({**base, "positions": positions}).weights((14, 14))
        for positions in ("absolute", "relative_shared", "relative_both")
    }
    assert counts["absolute"] - counts["relative_shared"] == 197 * 768 - 729 * 12
    assert counts["relative_both"] - counts["relative_shared"] == 12 * 729 * 12
