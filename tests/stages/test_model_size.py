"""Sizes of models against those of real ones, and against arithmetic by hand."""

from typing import Any

import pytest
import torch

from tokexp.registry import implementation
from tokexp.spec.models import VitSpec
from tokexp.spec.token_prop import TokenProp
from tokexp.stages.model_size import PartSize, model_size


def vit(stem: dict[str, Any], **fields: Any) -> VitSpec:
    return VitSpec.model_validate({"kind": "vit", "width": 16, "depth": 2, "heads": 2, "stem": stem, **fields})


def by_name(parts: list[PartSize]) -> dict[str, PartSize]:
    return {part.name: part for part in parts}


def test_multiplications_of_a_small_transformer_by_hand() -> None:
    parts = by_name(model_size(vit({"kind": "patchify", "patch_size": 4}), 3, (8, 12), 10))
    tokens, width = 1 + 6, 16
    block = 12 * tokens * width**2 + 2 * tokens**2 * width
    assert parts["stem"] == PartSize("stem", 49 * width, 6 * 48 * width)
    assert parts["blocks"].multiplications == 2 * block
    assert parts["head"] == PartSize("head", 17 * 10, 16 * 10)
    assert parts["model"].multiplications == 6 * 48 * width + 2 * block + 160


@pytest.mark.parametrize("kind", ["patchify", "frozen", "conv", "inter", "moto"])
def test_weights_are_those_of_the_real_model_with_frozen_ones(kind: str) -> None:
    stem: dict[str, Any] = {"kind": kind, "patch_size": 4}
    if kind == "moto":
        stem = {"kind": kind, "inner": {"kind": "patchify", "patch_size": 4}, "blocks": [2]}
    spec = vit(stem)
    real: torch.nn.Module = implementation("models", "vit")(spec, 3, (16, 16))
    expected = sum(parameter.numel() for parameter in real.parameters())
    expected += (3 * 16 + 1) * 16 if kind == "frozen" else 0
    assert by_name(model_size(spec, 3, (16, 16)))["model"].parameters == expected


def test_decoders_stand_beside_the_model_and_not_in_it() -> None:
    decoder = TokenProp.model_validate({"kind": "token_prop", "grid": 4, "size": 8, "rows": (8,), "block": "plain"})
    alone = model_size(vit({"kind": "patchify", "patch_size": 4}), 3, (16, 16))
    *rest, beside = model_size(vit({"kind": "patchify", "patch_size": 4}), 3, (16, 16), decoders=[decoder])
    assert rest == alone
    rows = (16 * 9 + 1) * 8, (2 * 9 + 1) * 3
    assert beside == PartSize("token_prop, in training alone", sum(rows), 16 * 9 * 8 * 16 + 2 * 9 * 3 * 64)


def test_nothing_is_computed_or_held() -> None:
    spec = VitSpec.model_validate({"kind": "vit", "width": 8192, "depth": 128, "heads": 64})
    assert by_name(model_size(spec, 8, (64, 64)))["model"].parameters > 100e9
