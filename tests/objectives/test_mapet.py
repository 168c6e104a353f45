"""pim and mapet: the merged pass against two explicit streams, leaks, counts, and what the published model weighs."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.objectives.building import pixel_batch, predictor, stir, token_batch, vit_spec
from tests.objectives.two_pass import two_pass_logits
from tokexp.errors import InputError
from tokexp.models.vit import build as build_vit
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.mapet import build
from tokexp.objectives.token_prediction import Chosen
from tokexp.spec.permuted import Mapet, Pim

KINDS = ["pim", "mapet"]
N = 24


def ready(kind: str, pixels: bool = True, **fields: Any) -> Any:
    """Return an objective with stirred weights, in eval mode."""
    objective = predictor(kind, pixels, **fields).eval()
    stir(objective)
    return objective


def orders(samples: int, seed: int = 1) -> Tensor:
    return torch.rand(samples, N, generator=torch.Generator().manual_seed(seed)).argsort(1)


def logits_of(objective: Any, values: Tensor, order: Tensor) -> Tensor:
    """Return logits (B, T, slots * codes) in rank order."""
    patches = objective.embed(values, objective.targets(values, torch.zeros(len(values), 4, 6, dtype=torch.int64)))
    found: Tensor = objective.head(objective.features(patches, Chosen(order))[0])
    return found


@pytest.mark.parametrize("layer_scale", [None, 0.1])
@pytest.mark.parametrize("cut", [0, 1, 7, 23])
@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_pass_equals_two_streams_in_outputs_and_gradients(
    kind: str, cut: int, layer_scale: float | None
) -> None:
    vit = vit_spec(depth=3, layer_scale=layer_scale)
    objective = ready(kind, vit=vit, cut=cut)
    batch, order = pixel_batch(2), orders(2)
    output = objective.step(batch.values, batch.target_indices, Chosen(order))
    output.loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in objective.named_parameters()}
    objective.zero_grad()

    assert batch.values is not None
    assert batch.target_indices is not None
    patches = objective.backbone.embed(objective.token_input(batch.values))
    logits = two_pass_logits(objective, patches, order, cut, kind == "mapet")
    targets = order[:, cut:]
    reference = logits[:, 1:].take_along_dim(targets[:, :, None], 1)
    torch.testing.assert_close(logits_of(objective, batch.values, order), reference, atol=2e-5, rtol=1e-5)
    loss = cross_entropy(reference.flatten(0, 1), batch.target_indices.flatten(1).gather(1, targets).flatten())
    torch.testing.assert_close(output.loss, loss, atol=1e-5, rtol=1e-5)
    loss.backward()
    for name, parameter in objective.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_target_changes_the_predictions_of_later_ones_and_no_other(kind: str) -> None:
    cut = 9
    objective, order, batch = ready(kind, cut=cut), orders(1), pixel_batch(1)
    assert batch.values is not None
    before = logits_of(objective, batch.values, order)
    for rank in range(N):
        row, column = divmod(int(order[0, rank]), 6)
        changed = batch.values.clone()
        changed[..., 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] += 1.0
        differs = (logits_of(objective, changed, order) - before).abs().amax(-1)[0] > 0
        expected = torch.arange(N - cut) + cut > rank if rank >= cut else torch.ones(N - cut).bool()
        assert torch.equal(differs, expected), rank


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_has_no_gradient_from_its_own_or_later_patches(kind: str) -> None:
    cut = 9
    objective, order, batch = ready(kind, cut=cut), orders(1), pixel_batch(1)
    assert batch.values is not None
    pixels = batch.values.requires_grad_()
    for target in range(N - cut):
        (gradient,) = torch.autograd.grad(logits_of(objective, pixels, order)[0, target].square().sum(), pixels)
        by_patch = gradient[0].abs().sum(0).reshape(4, 2, 6, 2).sum((1, 3)).flatten()[order[0]]
        assert torch.equal(by_patch > 0, torch.arange(N) < cut + target)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_within_the_context_does_not_matter(kind: str) -> None:
    objective, order, batch = ready(kind, cut=9), orders(2), pixel_batch(2)
    other = torch.cat([order[:, :9].flip(1), order[:, 9:]], dim=1)
    assert batch.values is not None
    found = [logits_of(objective, batch.values, each) for each in (order, other)]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-5)


def test_mask_tokens_change_every_prediction() -> None:
    order, batch = orders(2), pixel_batch(2)
    assert batch.values is not None
    one, two = (logits_of(ready(kind, cut=9), batch.values, order) for kind in KINDS)
    assert bool(((one - two).abs().amax(-1) > 1e-4).all())


@pytest.mark.parametrize("kind", KINDS)
def test_stochastic_depth_is_one_draw_for_both_streams(kind: str) -> None:
    objective = predictor(kind, pixels=True, cut=9)
    dropping = nn.Module()
    seen: list[torch.Size] = []
    dropping.forward = lambda rows: seen.append(rows.shape) or rows  # type: ignore[method-assign, func-returns-value]
    objective.backbone.blocks[0].drop_path1 = objective.backbone.blocks[0].drop_path2 = dropping
    batch = pixel_batch(2)
    objective(batch, torch.Generator().manual_seed(0))
    rows = 1 + N + 15 * (2 if kind == "mapet" else 1)
    assert [shape[:2] for shape in seen] == [(2, rows), (2, rows)]


def test_counts_are_those_of_the_paper_and_of_the_release() -> None:
    cuts = {30: (166, 167), 40: (156, 157), 50: (146, 147), 60: (136, 137), 98: (98, 99)}
    for cut, (paper, released) in cuts.items():
        for spec in (Mapet, Pim):
            kind = spec.model_fields["kind"].annotation.__args__[0]  # type: ignore[union-attr]
            assert spec.model_validate({"kind": kind, "cut": cut}).predicted(196) == paper
            assert spec.model_validate({"kind": kind, "cut": cut, "preset": "released"}).predicted(196) == released
    assert Mapet(kind="mapet").predicted(196) == 146


@pytest.mark.parametrize(
    ("size", "cut", "whole", "backbone"),
    [("tiny", 50, 7_110_272, 5_529_024), ("small", 50, 24_829_184, 21_674_880), ("base", 60, 92_117_504, 85_817_088)],
)
def test_the_published_models_have_their_sizes(size: str, cut: int, whole: int, backbone: int) -> None:
    with torch.device("meta"):
        stem = {"kind": "patchify", "patch_size": 16}
        vit = build_vit(vit_spec(stem, size=size, input="pixels", layer_scale=0.1), 3, (224, 224))
        spec = Mapet(kind="mapet", cut=cut)
        objective = build(spec, ObjectiveContext(vit, nn.Identity(), 1000, target_codes=8192))
    assert sum(p.numel() for p in objective.parameters()) == whole
    assert sum(p.numel() for p in vit.parameters()) == backbone
    assert objective.predicted == 196 - cut


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_starts_near_the_log_of_the_codes_and_one_batch_can_be_learned(kind: str) -> None:
    objective = predictor(kind, pixels=True, codes=11, cut=12, vit=vit_spec(width=32, heads=2))
    batch, draws = pixel_batch(2, codes=11), torch.Generator()
    chosen = objective.draw(2, draws.manual_seed(0))
    first = objective.step(batch.values, batch.target_indices, chosen).loss
    assert first.item() == pytest.approx(math.log(11), abs=0.1)
    optimizer = torch.optim.AdamW(objective.parameters(), 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = objective.step(batch.values, batch.target_indices, chosen).loss
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_of_stored_tokens_all_tokens_of_a_patch_are_predicted(kind: str) -> None:
    objective = ready(kind, pixels=False, cut=9)
    indices, batch = token_batch(objective, 2)
    order = orders(2)
    assert batch.values is not None
    logits = logits_of(objective, batch.values, order).unflatten(-1, (4, 13))
    wanted = torch.stack([
        torch.stack([indices[b, 2 * (p // 6) : 2 * (p // 6) + 2, 2 * (p % 6) : 2 * (p % 6) + 2].flatten()
                     for p in order[b, 9:].tolist()])
        for b in range(2)
    ])  # fmt: skip
    output = objective.step(batch.values, None, Chosen(order))
    loss = cross_entropy(logits.flatten(0, 2), wanted.flatten())
    torch.testing.assert_close(output.loss, loss)
    assert output.metrics["target_ratio"].item() == pytest.approx(15 / 24)


def test_orders_are_uniform() -> None:
    objective = predictor("mapet", pixels=True)
    order = objective.draw(4800, torch.Generator().manual_seed(0)).order
    counts = torch.stack([(order == patch).sum(0) for patch in range(N)]).double()
    # Chi-square of 23 x 23 degrees of freedom: mean 529, deviation 32.5.
    assert abs(((counts - 200) ** 2 / 200).sum().item() - 529) < 4 * 32.5
    assert torch.equal(order.sort(1).values, torch.arange(N).expand(4800, N))


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_of_nothing_predicts_every_patch_and_cannot_hold_the_class_token(kind: str) -> None:
    spec: Any = {"mapet": Mapet, "pim": Pim}[kind]
    assert spec.model_validate({"kind": kind, "cut": 0}).predicted(9) == 9
    assert spec.model_validate({"kind": kind, "cut": 1, "cut_counts_cls": True}).predicted(9) == 9
    with pytest.raises(ValueError, match="the class token is one of the cut"):
        spec.model_validate({"kind": kind, "cut": 0, "cut_counts_cls": True})


def test_a_cut_that_leaves_nothing_and_tokens_of_another_grid_are_said() -> None:
    with pytest.raises(InputError, match="leaves nothing to predict of 24 patches"):
        predictor("pim", pixels=True, cut=24)
    batch = pixel_batch(2)
    objective = predictor("mapet", pixels=True)
    with pytest.raises(InputError, match="choose tokenizer and stem so that a patch is a token"):
        objective.step(batch.values, torch.zeros(2, 8, 12, dtype=torch.int64), objective.draw(2, torch.Generator()))
    without = ObjectiveContext(build_vit(vit_spec(), 3, (8, 12)), nn.Identity(), 10)
    with pytest.raises(InputError, match="needs a tokenizer"):
        build(Mapet(kind="mapet"), without)
