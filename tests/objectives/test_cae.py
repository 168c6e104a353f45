"""cae: both losses against the formulas, what may be seen by whom, where gradients stop, and the lagged copy."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, layer_norm

from tests.models.test_vit import reference_blocks
from tests.objectives.building import pixel_batch, predictor, stir, token_batch, vit_spec
from tokexp.errors import InputError
from tokexp.objectives.token_prediction import Chosen
from tokexp.spec.context_autoencoding import Cae, Neck

N, MASKED = 24, 12
SMALL: dict[str, Any] = {"width": 16, "heads": 2, "regressor": 2, "decoder": 2}
SAME: dict[str, Any] = {"width": None, "heads": 3, "regressor": 2, "decoder": 1, "layer_scale": None}
RAGGED: dict[str, Any] = {"smallest": 11, "exact": False}
CASES: list[dict[str, Any]] = [
    {"neck": SMALL}, {"neck": SAME}, {"neck": SMALL, "blocks": RAGGED}, {"neck": SMALL, "align_to": "lagged_copy"},
]  # fmt: skip


def ready(pixels: bool = True, **fields: Any) -> Any:
    """Return an objective with stirred weights, in eval mode; half of 4 x 6 patches are masked."""
    objective = predictor("cae", pixels, **{"blocks": {"smallest": 4}, "neck": SMALL, **fields}).eval()
    stir(objective)
    return objective


def drawn(objective: Any, samples: int = 4, seed: int = 1) -> tuple[Chosen, list[int]]:
    """Return what was drawn, and how many patches of each sample count."""
    chosen = objective.draw(samples, torch.Generator().manual_seed(seed))
    return chosen, [MASKED] * samples if chosen.counts is None else chosen.counts.tolist()


def norm(part: dict[str, Tensor], name: str, rows: Tensor) -> Tensor:
    return layer_norm(rows, rows.shape[-1:], part[f"{name}.weight"], part[f"{name}.bias"], 1e-6)


def linear(part: dict[str, Tensor], name: str, rows: Tensor) -> Tensor:
    return rows @ part[f"{name}.weight"].T + part.get(f"{name}.bias", torch.zeros(()))


def mixed(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Return attention of rows (m, D) to rows (n, D), head by head."""
    found = []
    for q, k, v in zip(*(rows.chunk(heads, dim=1) for rows in (queries, keys, values)), strict=True):
        found.append((q @ k.T / math.sqrt(q.shape[1])).softmax(1) @ v)
    return torch.cat(found, dim=1)


def perceptron(part: dict[str, Tensor], rows: Tensor) -> Tensor:
    return linear(part, "mlp.fc2", gelu(linear(part, "mlp.fc1", rows)))


def reference_latents(neck: Any, visible: Tensor, vector: Tensor, seen: Tensor, hidden: Tensor, heads: int) -> Tensor:
    """Return the regressor's predictions (m, D) for one sample, by the formulas of Chen et al. and their release."""
    rows = vector.expand(len(hidden), -1)
    hidden_places, places = neck.positions[0, hidden], neck.positions[0, torch.cat([seen, hidden])]
    for block in neck.regressor:
        part = dict(block.named_parameters())
        first, second = part.get("scale_attention.gamma", 1.0), part.get("scale_mlp.gamma", 1.0)
        known = torch.cat([visible, rows])
        queries = linear(part, "attention.query", norm(part, "norm_query", rows + hidden_places))
        keys = norm(part, "norm_key", known + places) @ part["attention.key.weight"].T
        values = linear(part, "attention.value", norm(part, "norm_value", known))
        rows = rows + first * linear(part, "attention.project", mixed(queries, keys, values, heads))
        rows = norm(part, "norm", rows)
        rows = rows + second * perceptron(part, rows)
    return norm(dict(neck.named_parameters()), "latent_norm", rows)


def reference_features(neck: Any, latents: Tensor, hidden: Tensor, heads: int) -> Tensor:
    rows = latents + neck.positions[0, hidden]
    for block in neck.decoder:
        part = dict(block.named_parameters())
        first, second = part.get("ls1.gamma", 1.0), part.get("ls2.gamma", 1.0)
        parts = linear(part, "attn.qkv", norm(part, "norm1", rows)).chunk(3, dim=1)
        rows = rows + first * linear(part, "attn.proj", mixed(*parts, heads))
        rows = rows + second * perceptron(part, norm(part, "norm2", rows))
    return norm(dict(neck.named_parameters()), "norm", rows)


def encoded(vit: Any, patches: Tensor, kept: Tensor) -> Tensor:
    """Return the encoder's output (n, D) for the patches `kept` of one sample, which see one another and no others."""
    tokens = torch.cat([vit.class_token[0] + vit.positions[0, :1], patches[kept] + vit.positions[0, 1 + kept]])
    found: Tensor = vit.norm(reference_blocks(vit, tokens[None], 2))[0, 1:]
    return found


@pytest.mark.parametrize("fields", CASES, ids=["narrow", "same-width", "ragged", "lagged"])
def test_both_losses_are_the_formulas(fields: dict[str, Any]) -> None:
    objective, batch = ready(**fields), pixel_batch()
    (chosen, counts), neck, vit = drawn(objective), objective.neck, objective.backbone
    heads = fields["neck"]["heads"]
    aligned = vit if objective.lagged is None else objective.lagged.used.backbone
    output = objective.step(batch.values, batch.target_indices, chosen)
    assert batch.values is not None
    assert batch.target_indices is not None
    pixels, entering = (batch.values - 0.5) / 0.5, objective.neck.enter
    losses, errors, right = [], [], []
    for number, (order, count) in enumerate(zip(chosen.order, counts, strict=True)):
        hidden, seen = order[:MASKED], order[MASKED:]
        visible = entering(encoded(vit, vit.embed(pixels[number : number + 1])[0], seen))
        latents = reference_latents(neck, visible, objective.mask_vector[0], seen, hidden, heads)
        features = reference_features(neck, latents, hidden, heads)
        logits = features @ objective.head.weight.T + objective.head.bias
        wanted = batch.target_indices[number].flatten()[hidden]
        losses.append(cross_entropy(logits, wanted, reduction="none")[:count])
        right.append((logits.argmax(1) == wanted)[:count])
        target = entering(encoded(aligned, aligned.embed(pixels[number : number + 1])[0], hidden))
        errors.append(((latents - target) ** 2)[:count])
    tokens, alignment = torch.cat(losses).mean(), torch.cat(errors).mean()
    torch.testing.assert_close(output.metrics["cross_entropy"], tokens.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.metrics["alignment"], alignment.detach(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.loss, tokens + 2.0 * alignment, atol=1e-5, rtol=1e-5)
    assert output.metrics["accuracy"].item() == pytest.approx(torch.cat(right).double().mean().item())
    assert output.metrics["target_ratio"].item() == pytest.approx(sum(counts) / (4 * N))


def of_pixels(patches: Tensor) -> Tensor:
    """Return (B, 1, 8, 12): 1 at the pixels of patches (B, n)."""
    marked = torch.zeros(len(patches), N).scatter(1, patches, 1.0).view(-1, 1, 4, 6)
    return marked.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.mark.parametrize("align_to", ["encoder", "lagged_copy"])
def test_a_changed_masked_patch_changes_the_alignments_target_and_nothing_else(align_to: str) -> None:
    objective, batch = ready(align_to=align_to), pixel_batch()
    chosen, _ = drawn(objective)
    hidden, seen = chosen.order[:, :MASKED], chosen.order[:, MASKED:]

    def outputs(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        patches = objective.embed(values, batch.target_indices)
        latents = objective.latents(patches, chosen)
        return latents, objective.neck.decode(latents, hidden), objective.wanted(values, patches, hidden)

    assert batch.values is not None
    before, noise = outputs(batch.values), torch.rand(batch.values.shape, generator=torch.Generator().manual_seed(2))
    inside = outputs(batch.values + noise * of_pixels(hidden[:, :1]))
    assert [torch.equal(old, new) for old, new in zip(before, inside, strict=True)] == [True, True, False]
    outside = outputs(batch.values + noise * of_pixels(seen[:, :1]))
    assert [torch.equal(old, new) for old, new in zip(before, outside, strict=True)] == [False, False, True]


@pytest.mark.parametrize("align_to", ["encoder", "lagged_copy"])
def test_no_gradient_goes_into_what_is_aligned_with(align_to: str) -> None:
    objective, batch = ready(align_to=align_to), pixel_batch()
    chosen, _ = drawn(objective)
    assert batch.values is not None
    pixels = batch.values.requires_grad_()
    loss = objective.step(pixels, batch.target_indices, chosen).loss
    (gradient,) = torch.autograd.grad(loss, pixels, retain_graph=True)
    masked = of_pixels(chosen.order[:, :MASKED])
    assert torch.equal(gradient * masked, torch.zeros_like(gradient))
    assert (gradient * (1 - masked)).abs().sum() > 0
    loss.backward()
    copied = [] if objective.lagged is None else list(objective.lagged.parameters())
    assert all(parameter.grad is None for parameter in copied)


def test_ragged_masks_differ_and_what_does_not_count_has_no_influence() -> None:
    objective, batch = ready(blocks=RAGGED), pixel_batch(8)
    chosen, counts = drawn(objective, 8)
    assert min(counts) < max(counts) == MASKED
    assert batch.target_indices is not None
    before = objective.step(batch.values, batch.target_indices, chosen)
    beyond = torch.arange(MASKED) >= torch.tensor(counts)[:, None]
    changed = batch.target_indices.flatten(1).scatter_add(1, chosen.order[:, :MASKED], beyond.long()) % 13
    assert not torch.equal(changed, batch.target_indices.flatten(1))
    assert torch.equal(objective.step(batch.values, changed.view(8, 4, 6), chosen).loss, before.loss)
    latents, wanted = torch.zeros(8, MASKED, 5), beyond.float()[:, :, None].expand(-1, -1, 5)
    assert objective.alignment(latents, wanted, chosen).item() == 0.0
    assert objective.alignment(latents, 1 - wanted, chosen).item() == 1.0


def test_a_batch_without_any_block_costs_nothing() -> None:
    objective, batch = ready(blocks=RAGGED), pixel_batch(2)
    nothing = Chosen(torch.arange(N).expand(2, N), torch.zeros(2, dtype=torch.int64))
    output = objective.step(batch.values, batch.target_indices, nothing)
    assert output.loss.item() == 0.0
    output.loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


def test_without_its_weight_the_alignment_is_left_out() -> None:
    batch = pixel_batch()
    weighted, plain = ready(align_weight=0.5), ready(align_weight=0.0, align_to="lagged_copy")
    chosen, _ = drawn(plain)
    found = [each.step(batch.values, batch.target_indices, chosen) for each in (weighted, plain)]
    torch.testing.assert_close(found[1].loss.detach(), found[0].metrics["cross_entropy"])
    parts = found[0].metrics
    torch.testing.assert_close(found[0].loss.detach(), parts["cross_entropy"] + 0.5 * parts["alignment"])
    assert "alignment" not in found[1].metrics
    assert plain.lagged is None


def test_the_lagged_copy_is_one_update_behind() -> None:
    objective = predictor("cae", pixels=True, blocks={"smallest": 4}, neck=SMALL, align_to="lagged_copy")
    weight, copied = objective.backbone.class_token, objective.lagged.used.backbone.class_token
    history = [weight.detach().clone()]
    assert torch.equal(copied, history[0])
    for _ in range(3):
        with torch.no_grad():
            weight.add_(1.0)
        objective.after_step()
        assert torch.equal(copied, history[-1])
        history.append(weight.detach().clone())


def test_positions_are_sines_of_the_place_and_not_trained() -> None:
    neck = ready().neck
    assert neck.positions.shape == (1, N, 16)
    row, column = divmod(9, 6)
    frequencies = 10000.0 ** (-torch.arange(4) / 4)
    down, across = row * frequencies, column * frequencies
    expected = torch.cat([down.sin(), across.sin(), down.cos(), across.cos()])
    torch.testing.assert_close(neck.positions[0, 9], expected)
    assert "positions" not in dict(neck.named_parameters())


def test_stochastic_depth_rises_in_the_regressor_and_in_the_decoder() -> None:
    neck = predictor("cae", pixels=True, blocks={"smallest": 4}, neck={**SMALL, "decoder": 3}, drop_path=0.2).neck
    assert [getattr(block.drop_path, "drop_prob", 0.0) for block in neck.regressor] == pytest.approx([0.0, 0.2])
    assert [getattr(block.drop_path1, "drop_prob", 0.0) for block in neck.decoder] == pytest.approx([0.0, 0.1, 0.2])


def test_of_stored_tokens_all_tokens_of_a_patch_are_predicted() -> None:
    objective = ready(pixels=False)
    indices, batch = token_batch(objective)
    chosen, _ = drawn(objective)
    before = objective.step(batch.values, None, chosen)
    assert objective.head.out_features == 4 * 13
    row, column = divmod(int(chosen.order[0, 0]), 6)
    other = indices.clone()
    other[0, 2 * row + 1, 2 * column] = (other[0, 2 * row + 1, 2 * column] + 1) % 13
    found = objective.step(objective.token_input.codebook.lookup(other), None, chosen)
    assert not torch.equal(found.metrics["cross_entropy"], before.metrics["cross_entropy"])


def test_presets_are_those_of_the_comparison_and_of_the_release() -> None:
    paper, released = (Cae.model_validate({"kind": "cae", "preset": name}) for name in ("paper", "released"))
    for spec in (paper, released):
        assert (spec.predicted(196), spec.align_weight, spec.blocks.smallest, spec.blocks.exact) == (98, 2.0, 16, True)
        assert (spec.neck.regressor, spec.neck.decoder, spec.neck.layer_scale) == (4, 4, 0.1)
        assert (spec.train.lr, spec.train.batch_size, spec.train.clip_grad) == (1.5e-3, 2048, 3.0)
    assert [paper.neck.shape(768), released.neck.shape(768)] == [(384, 6), (768, 12)]
    assert [paper.align_to, released.align_to] == ["encoder", "lagged_copy"]
    assert [paper.train.schedule.unit, released.train.schedule.unit] == ["epoch", "step"]


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"heads \(3\) must divide width \(16\)"):
        Neck(width=16, heads=3)
    with pytest.raises(InputError, match=r"heads \(5\) must divide the encoder's width \(24\)"):
        predictor("cae", pixels=True, neck={"width": None, "heads": 5})


def test_the_token_loss_starts_near_the_log_of_the_codes_and_one_batch_can_be_learned() -> None:
    objective = predictor("cae", pixels=True, codes=11, blocks={"smallest": 4}, neck=SMALL, vit=vit_spec(width=32))
    batch, (chosen, _) = pixel_batch(2, codes=11), drawn(objective, 2)
    first = objective.step(batch.values, batch.target_indices, chosen).metrics
    assert first["cross_entropy"].item() == pytest.approx(math.log(11), abs=0.15)
    optimizer = torch.optim.AdamW(objective.parameters(), 5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        output = objective.step(batch.values, batch.target_indices, chosen)
        output.loss.backward()
        optimizer.step()
    assert output.metrics["cross_entropy"].item() < 0.1
    assert output.metrics["alignment"].item() < 0.5 * first["alignment"].item()
