"""mim and beit: what is hidden, what counts, and the loss against one from the formulas."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.models.test_vit import reference_blocks
from tests.objectives.building import pixel_batch, predictor, stir, token_batch, vit_spec
from tokexp.objectives.token_prediction import Chosen
from tokexp.spec.masked import Beit, Mim

CASES: list[tuple[str, dict[str, Any]]] = [
    ("mim", {}), ("beit", {"blocks": {"smallest": 2}}), ("beit", {"blocks": {"smallest": 10, "exact": False}}),
]  # fmt: skip
N = 24


def ready(kind: str, pixels: bool = True, **fields: Any) -> Any:
    objective = predictor(kind, pixels, **fields).eval()
    stir(objective)
    return objective


def drawn(objective: Any, samples: int = 4, seed: int = 1) -> tuple[Chosen, list[Tensor]]:
    """Return what was drawn, and the masked patches of each sample."""
    chosen = objective.draw(samples, torch.Generator().manual_seed(seed))
    counts = [objective.masked] * samples if chosen.counts is None else chosen.counts.tolist()
    return chosen, [order[:count] for order, count in zip(chosen.order, counts, strict=True)]


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_the_loss_is_the_formula_on_masked_patches_alone(kind: str, fields: dict[str, Any]) -> None:
    objective, batch = ready(kind, vit=vit_spec(depth=3), **fields), pixel_batch()
    chosen, masked = drawn(objective)
    output = objective.step(batch.values, batch.target_indices, chosen)
    vit, losses, right = objective.backbone, [], []
    assert batch.target_indices is not None
    patches = vit.embed(objective.token_input(batch.values))
    for sample, hidden, wanted in zip(patches, masked, batch.target_indices.flatten(1), strict=True):
        rows = sample.clone()
        rows[hidden] = objective.mask_vector[0, 0]
        tokens = torch.cat([vit.class_token[0], rows]) + vit.positions[0]
        encoded = vit.norm(reference_blocks(vit, tokens[None], 2))[0, 1:]
        logits = encoded[hidden] @ objective.head.weight.T + objective.head.bias
        losses.append(cross_entropy(logits, wanted[hidden], reduction="none"))
        right.append(logits.argmax(1) == wanted[hidden])
    torch.testing.assert_close(output.loss, torch.cat(losses).mean(), atol=1e-5, rtol=1e-5)
    assert output.metrics["accuracy"].item() == pytest.approx(torch.cat(right).double().mean().item())
    assert output.metrics["target_ratio"].item() == pytest.approx(sum(map(len, masked)) / (4 * N))


def test_ragged_masks_really_differ_from_sample_to_sample() -> None:
    _, masked = drawn(predictor("beit", pixels=True, blocks={"smallest": 10, "exact": False}))
    assert {len(hidden) for hidden in masked} == {9, 10}
    _, exact = drawn(predictor("beit", pixels=True, blocks={"smallest": 10}))
    assert {len(hidden) for hidden in exact} == {10}


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_the_content_of_masked_patches_is_never_seen_and_that_of_others_is(kind: str, fields: dict[str, Any]) -> None:
    objective, batch = ready(kind, **fields), pixel_batch()
    chosen, masked = drawn(objective)
    assert batch.values is not None
    before = objective.step(batch.values, batch.target_indices, chosen).loss
    hidden = torch.stack([torch.zeros(N).index_fill(0, each, 1.0) for each in masked]).view(4, 1, 4, 6)
    of_pixels = hidden.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.equal(objective.step(batch.values + of_pixels, batch.target_indices, chosen).loss, before)
    assert not torch.equal(objective.step(batch.values + 1 - of_pixels, batch.target_indices, chosen).loss, before)


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_targets_of_visible_patches_do_not_count(kind: str, fields: dict[str, Any]) -> None:
    objective, batch = ready(kind, **fields), pixel_batch()
    chosen, masked = drawn(objective)
    assert batch.target_indices is not None
    before = objective.step(batch.values, batch.target_indices, chosen).loss
    visible = torch.stack([torch.ones(N, dtype=torch.int64).index_fill(0, each, 0) for each in masked]).view(4, 4, 6)
    changed = (batch.target_indices + visible) % 13
    assert torch.equal(objective.step(batch.values, changed, chosen).loss, before)
    changed = (batch.target_indices + 1 - visible) % 13
    assert not torch.equal(objective.step(batch.values, changed, chosen).loss, before)


def test_positions_are_added_after_patches_were_replaced() -> None:
    objective, batch = ready("mim"), pixel_batch(1)
    chosen, (masked,) = drawn(objective, 1)
    found: list[Tensor] = []
    objective.backbone.blocks[0].register_forward_pre_hook(lambda _, given: found.append(given[0]))
    objective.step(batch.values, batch.target_indices, chosen)
    expected = objective.mask_vector[0, 0] + objective.backbone.positions[0, 1 + masked]
    torch.testing.assert_close(found[0][0, 1 + masked], expected)


def test_of_stored_tokens_those_of_masked_patches_are_predicted() -> None:
    objective = ready("mim", pixels=False)
    indices, batch = token_batch(objective)
    chosen, _ = drawn(objective)
    before = objective.step(batch.values, None, chosen)
    other = (indices + 1) % 13
    assert before.metrics["target_ratio"].item() == pytest.approx(10 / 24)
    assert not torch.equal(objective.step(objective.token_input.codebook.lookup(other), None, chosen).loss, before.loss)
    assert torch.equal(objective.targets(batch.values, None), indices)


def test_counts_are_those_of_the_papers_and_of_the_releases() -> None:
    assert Mim(kind="mim").predicted(196) == 78
    assert Mim(kind="mim", preset="released").predicted(196) == 75  # type: ignore[call-arg]
    for preset, exact in (("paper", True), ("released", False), ("released_v2", True)):
        spec = Beit.model_validate({"kind": "beit", "preset": preset})
        assert spec.predicted(196) == (78 if preset == "paper" else 75)
        assert spec.blocks.exact is exact
        assert spec.blocks.smallest == 16


def test_a_batch_without_any_block_costs_nothing() -> None:
    objective, batch = ready("beit", blocks={"smallest": 2, "exact": False}), pixel_batch(2)
    nothing = Chosen(torch.arange(N).expand(2, N), torch.zeros(2, dtype=torch.int64))
    output = objective.step(batch.values, batch.target_indices, nothing)
    assert output.loss.item() == 0.0
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_the_loss_starts_near_the_log_of_the_codes_and_one_batch_can_be_learned(
    kind: str, fields: dict[str, Any]
) -> None:
    objective = predictor(kind, pixels=True, codes=11, vit=vit_spec(width=32), **fields)
    batch, (chosen, _) = pixel_batch(2, codes=11), drawn(objective, 2)
    first = objective.step(batch.values, batch.target_indices, chosen).loss
    assert first.item() == pytest.approx(math.log(11), abs=0.15)
    optimizer = torch.optim.AdamW(objective.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = objective.step(batch.values, batch.target_indices, chosen).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
