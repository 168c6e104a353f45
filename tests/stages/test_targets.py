"""Pre-training on pixels with tokens as targets: they are those of the same image, at the same place."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.stages.running import SMALL, Bench, plan_of
from tokexp.data.base import Batch
from tokexp.engine.batches import TargetFeed, TokenFeed
from tokexp.stages.assembly import image_source, load_tokenizer, model_inputs
from tokexp.stages.training_source import training_source

MODEL = {**SMALL["model"], "input": "pixels", "stem": {"kind": "patchify", "patch_size": 2}}
TRAIN = {"steps": 6, "batch_size": 32, "warmup": 0.0}


def plan(kind: str = "mim", augment: Any = (), **objective: Any) -> Any:
    given = {"kind": kind, "train": TRAIN, **({"blocks": {"smallest": 2}} if kind == "beit" else {}), **objective}
    return plan_of(model=MODEL, storage={}, augment={"pretrain": list(augment)}, objective=given)


def source_of(bench: Bench, found: Any) -> Any:
    """Return what the pretrain stage of a plan is fed."""
    bench.run_to(found, "tokenizer")
    node = found.node(found.seeds[0]["pretrain"])
    if "tokens" in node.inputs:
        bench.run_to(found, "tokens")
    context = bench.context(node)
    return training_source(context, node.payload, model_inputs(context, node.payload.model, node.payload.data))


def tokens_of(bench: Bench, found: Any, images: torch.Tensor) -> torch.Tensor:
    """Return the tokens of images by the plan's tokenizer."""
    node = found.node(found.seeds[0]["tokenizer"])
    folder = bench.root / node.key
    return load_tokenizer(node.payload.tokenizer, node.payload.data, folder, torch.device("cpu")).encode(images)


@pytest.mark.parametrize("targets", ["stored", "encoded"])
@pytest.mark.parametrize("kind", ["mim", "beit", "pim", "mapet", "cae"])
def test_every_objective_leads_from_pixels_to_a_fine_tuned_model(bench: Bench, kind: str, targets: str) -> None:
    tuned = {"finetune": {**SMALL["tasks"]["finetune"], "train": {**TRAIN, "steps": 2}}}
    given = {"kind": kind, "targets": targets, "train": TRAIN}
    given |= {"blocks": {"smallest": 2}} if kind in ("beit", "cae") else {}
    given |= {"align_to": "lagged_copy", "neck": {"width": 16, "heads": 2}} if kind == "cae" else {}
    found = plan_of(model=MODEL, storage={}, augment=[], objective=given, tasks=tuned)
    metrics = bench.run_to(found, "pretrain")[0].metrics
    assert 0 < metrics.get("cross_entropy", metrics["loss"]) < 4
    assert bench.run_to(found, "finetune/clean")[0].metrics["top1"] > 0


@pytest.mark.parametrize("kind", ["mim", "mapet"])
def test_stored_tokens_are_read_and_predicted(bench: Bench, kind: str) -> None:
    model = {**SMALL["model"], "stem": {"kind": "patchify", "patch_size": 1}}
    found = plan_of(model=model, augment=[], objective={"kind": kind, "train": TRAIN})
    assert 0 < bench.run_to(found, "pretrain")[0].metrics["loss"] < 4


def test_stored_targets_are_the_tokens_of_the_same_image(bench: Bench) -> None:
    found = plan(augment=[{"kind": "color_jitter"}])
    source = source_of(bench, found)
    positions = torch.tensor([700, 3, 1000, 12])
    batch = source.augment(source.feed.batch(positions), torch.Generator().manual_seed(0))
    images = image_source(found.node(found.seeds[0]["pretrain"]).payload.data).read("train", positions.tolist())
    assert torch.equal(batch.target_indices, tokens_of(bench, found, images))
    assert not torch.allclose(batch.values, images)
    assert source.target_codes == 16


def test_encoded_targets_are_the_tokens_of_the_augmented_pixels(bench: Bench) -> None:
    found = plan(augment=[{"kind": "pixel_rrc", "scale": [0.3, 0.6]}], targets="encoded")
    source = source_of(bench, found)
    with torch.autocast("cpu", torch.bfloat16):
        batch = source.augment(source.feed.batch(torch.arange(8)), torch.Generator().manual_seed(0))
    assert torch.equal(batch.target_indices, tokens_of(bench, found, batch.values.clamp(0, 1)))
    assert not torch.equal(batch.target_indices, tokens_of(bench, found, source.feed.batch(torch.arange(8)).values))


def test_one_bright_cell_is_a_token_of_its_own_at_that_cell(bench: Bench) -> None:
    found = plan(targets="encoded")
    source, places = source_of(bench, found), torch.arange(16)
    images = torch.zeros(16, 1, 4, 2, 4, 2)
    images[places, 0, places // 4, :, places % 4] = 1.0
    batch = Batch(torch.zeros(16, dtype=torch.int64), 10, values=images.view(16, 1, 8, 8))
    tokens = source.augment(batch, torch.Generator()).target_indices.flatten(1)
    dark = tokens[0, 15]
    assert torch.equal((tokens != dark).nonzero(), torch.stack([places, places], dim=1))
    assert len(tokens[tokens != dark].unique()) == 1


def test_tokens_of_other_images_are_refused() -> None:
    indices, device = np.zeros((3, 2, 2), np.uint16), torch.device("cpu")
    one, other = (TokenFeed(indices, np.array(labels), 4, device) for labels in ([0, 1, 2], [0, 2, 1]))
    with pytest.raises(ValueError, match="labels differ"):
        TargetFeed(one, other)
