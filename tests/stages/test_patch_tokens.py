"""Tests of patches through the stages: of pixels, of stored tokens, of a tower with texts; their figure."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.objectives.test_layerwise_kmeans import PATCHES, images, target
from tests.stages.running import SMALL, Bench, plan_of
from tokexp.errors import InputError
from tokexp.spec.data import DigitsData
from tokexp.spec.evaluation import SpatialInconsistency
from tokexp.stages.patch_pictures import colours, patch_figure
from tokexp.stages.patch_tokens import MorphedTokens

FEW = {"finetune": {"kind": "classify", "train": {"steps": 2, "batch_size": 64, "lr": 2e-3}}}
PIXELS = {**SMALL["model"], "input": "pixels", "stem": {"kind": "patchify", "patch_size": 2}}
TOWER = {"kind": "timm", "model": "vit_tiny_patch16_224", "random": True, "patch_size": 4}
SPEC = {"kind": "spatial_inconsistency", "train": {"steps": 3}}


def plan(model: dict[str, Any], **fields: Any) -> Any:
    tokenless = {"tokenizer": None, "storage": {}} if model is PIXELS else {}
    return plan_of(tasks=FEW, evaluate={"x": {**SPEC, **fields}}, model=model, augment=[], objective=None, **tokenless)


@pytest.mark.parametrize("model", [PIXELS, {**SMALL["model"], "stem": {"kind": "patchify", "patch_size": 1}}])
def test_patches_of_pixels_and_of_stored_tokens_are_tested_and_drawn(bench: Bench, model: dict[str, Any]) -> None:
    result, folder = bench.run_to(plan(model, removed=[0.25, 0.5]), "finetune/x")
    names = {f"{what}{at}" for what in ("ensemble_top1", "patch_top1", "agreement", "neighbour_cosine")
             for at in ("", "_at_12", "_at_8")}  # fmt: skip
    assert set(result.metrics) == names
    assert all(0 <= result.metrics[name] <= 1 for name in names if "cosine" not in name)
    maps = np.load(folder / "patches.npz", allow_pickle=False)
    assert maps["predicted"].shape == (3, 6, 4, 4)
    assert patch_figure(DigitsData(kind="digits"), "test", folder).startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["kmeans", "layerwise", "layerwise_kmeans", "downsample", "whole"])
def test_every_grouper_gives_rows_for_all_patches_and_the_same_ones_in_any_batch(kind: str) -> None:
    encoder = target()
    own = {"per_block": 3} if kind == "layerwise" else {}
    spec = SpatialInconsistency.model_validate({**SPEC, "grouper": {"kind": kind, **own}})
    tokens = MorphedTokens(encoder, spec)
    assert (tokens.settings, tokens.grid) == (2, (6, 6))
    plain, morphed = tokens(images())
    torch.testing.assert_close(plain.rows, encoder(images()))
    assert plain.labels[1].tolist() == list(range(PATCHES))
    assert morphed.labels.shape == (3, PATCHES)
    assert int(morphed.labels.max()) < morphed.rows.shape[1] < PATCHES
    again = tokens(images()[1:])[1]
    assert torch.equal(again.labels, morphed.labels[1:])
    torch.testing.assert_close(again.rows, morphed.rows[1:])


def test_a_tower_is_compared_with_texts_and_its_files_are_those_of_the_plan(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "texts.safetensors"
    keys = []
    for seed in (0, 1):
        save_file({"texts": torch.randn(10, 1000, generator=torch.Generator().manual_seed(seed))}, file)
        found = plan(PIXELS, encoder=TOWER, text=str(file), iterations=2)
        keys.append(found.seeds[0]["finetune/x"])
    assert keys[0] != keys[1]
    result, _ = bench.run_to(found, "finetune/x")
    assert set(result.metrics) >= {"ensemble_top1_at_2", "patch_top1"}
    file.write_bytes(file.read_bytes()[:-4] + b"abcd")
    bench.results.pop(keys[1])
    with pytest.raises(InputError, match="is not the file that was planned with"):
        bench.run_to(found, "finetune/x")
    file.unlink()
    with pytest.raises(InputError, match=r"evaluate\.x\.text: .*No such file"):
        plan(PIXELS, encoder=TOWER, text=str(file))


def test_other_tests_have_the_key_that_they_had() -> None:
    found = plan_of(tasks=FEW, model=PIXELS, tokenizer=None, storage={}, augment=[], objective=None)
    assert "files" not in found.node(found.seeds[0]["finetune/noise"]).payload.relevant()


def test_a_matching_that_a_towers_patches_cannot_reach_is_said(bench: Bench) -> None:
    found = plan(PIXELS, encoder=TOWER, removed=[0.75], iterations=1)
    with pytest.raises(InputError, match=r"1 step\(s\) cannot remove 3 of 4 patches"):
        bench.run_to(found, "finetune/x")


def test_right_patches_are_green_and_wrong_ones_the_darker_the_worse() -> None:
    found = colours(np.array([[0, 1, 5, 9]]), 10)[0]
    assert found[0].argmax() == 1
    brightness = found.sum(-1)[1:]
    assert (found[1:].argmax(-1) == 0).all()
    assert brightness[0] > brightness[1] > brightness[2]
