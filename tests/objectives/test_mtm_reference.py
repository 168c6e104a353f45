"""Both forms of MTM against a plain reading of SeiT++: full grids, masks in place, logits at every token."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm

from tests.objectives.building import mtm, stir, token_batch, vit_spec
from tokexp.objectives.masking import Ranking

Weights = dict[str, Tensor]


def norm(x: Tensor, weights: Weights, name: str, eps: float = 1e-6) -> Tensor:
    return layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"], eps)


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return x @ weights[name + ".weight"].T + weights[name + ".bias"]


def blocks(x: Tensor, weights: Weights, name: str, depth: int, heads: int) -> Tensor:
    for number in range(depth):
        part = f"{name}.blocks.{number}."
        qkv = linear(norm(x, weights, part + "norm1"), weights, part + "attn.qkv")
        q, k, v = (torch.stack(each.chunk(heads, -1), 1) for each in qkv.chunk(3, -1))
        mixed = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + linear(torch.cat(list(mixed.unbind(1)), -1), weights, part + "attn.proj")
        x = x + linear(
            gelu(linear(norm(x, weights, part + "norm2"), weights, part + "mlp.fc1")), weights, part + "mlp.fc2"
        )
    return x


def full_logits(objective: Any, weights: Weights, values: Tensor, indices: Tensor, rank: Tensor, masked: int) -> Tensor:
    """Return logits (B, H, W, K) at every token, computed sample by sample on whole grids.

    rank: (B, N), the rank of every patch; ranks below `masked` are masked, the encoder drops those below n_drop.
    """
    spec, (rows, columns) = objective.spec, objective.backbone.patch_grid
    table = weights["token_input.table.weight"] if spec.input == "learned" else objective.token_input.codebook.codes
    count, heads = rows * columns, 2
    dropped = masked if spec.mask.scheme == "mae" else -int(-count * spec.mask.drop // 1)
    found = []
    for sample, tokens, ranks in zip(values, indices, rank, strict=True):
        if spec.input == "learned":
            sample = norm(table[tokens], weights, "token_input.norm").permute(2, 0, 1)
        stride = values.shape[-1] // columns
        grid = conv2d(sample[None], weights["backbone.stem.weight"], weights["backbone.stem.bias"], stride=stride)[0]
        patches = grid.flatten(1).T
        if spec.mask.scheme == "mage":
            patches = torch.where((ranks < masked)[:, None], weights["mask_vector"][0], patches)
        positions = weights["backbone.positions"][0]
        seen = (ranks >= dropped).nonzero()[:, 0]
        x = torch.cat([weights["backbone.class_token"][0] + positions[:1], patches[seen] + positions[1:][seen]])
        x = norm(
            blocks(x[None], weights, "backbone", len(objective.backbone.blocks), heads)[0], weights, "backbone.norm"
        )
        x = linear(x, weights, "decoder.embed")
        fill = x[:1] if spec.decoder.fill == "cls" else weights["decoder.fill"][0]
        full = fill.expand(count, -1).index_copy(0, seen, x[1:])
        full = torch.where((ranks < masked)[:, None], fill, full)
        x = torch.cat([x[:1], full]) + weights["decoder.positions"][0]
        heads_there = objective.decoder.blocks[0].attn.num_heads
        x = norm(
            blocks(x[None], weights, "decoder", len(objective.decoder.blocks), heads_there)[0], weights, "decoder.norm"
        )
        vectors = linear(x[1:], weights, "head.project").view(rows, columns, stride, stride, -1)
        cells = torch.empty(rows * stride, columns * stride, vectors.shape[-1])
        for p in range(stride):
            for q in range(stride):
                cells[p::stride, q::stride] = vectors[:, :, p, q]
        cells = norm(gelu(cells), weights, "head.norm", 1e-5)
        found.append(cells @ table.detach().T + weights["head.bias"])
    return torch.stack(found)


def full_loss(objective: Any, logits: Tensor, indices: Tensor, rank: Tensor, masked: int) -> Tensor:
    """Return the loss: smoothed cross-entropy of every token, mean over a patch, mean over all masked patches."""
    (rows, columns), smoothing = objective.backbone.patch_grid, objective.spec.label_smoothing
    logs = logits.log_softmax(-1)
    own = logs.gather(-1, indices[..., None])[..., 0]
    cost = -(1 - smoothing) * own - smoothing * logs.mean(-1)
    stride = logits.shape[1] // rows
    by_patch = cost.view(-1, rows, stride, columns, stride).mean((2, 4)).flatten(1)
    mask = (rank < masked).float()
    return (by_patch * mask).sum() / mask.sum()


FORMS = {
    "released": ("released", {}),
    "paper": ("paper", {}),
    "mage with a learned fill and the codebook": ("released", {"input": "codebook", "decoder": {"fill": "learned"}}),
    "mae with the class token as fill": ("paper", {"input": "learned", "decoder": {"fill": "cls"}}),
}


def prepared(form: str, stem: dict[str, Any] | None = None) -> tuple[Any, Weights, Tensor, Tensor, Ranking, Tensor]:
    preset, fields = FORMS[form]
    fields = {**fields, "decoder": {"dropout": 0.0, "depth": 2, "width": 16, "heads": 4, **fields.get("decoder", {})}}
    objective = mtm(preset, vit_spec(**({"stem": stem} if stem else {})), fields)
    stir(objective)
    weights = {name: p.detach().clone().requires_grad_(p.requires_grad) for name, p in objective.named_parameters()}
    indices, batch = token_batch(objective, samples=3)
    noise = torch.rand(3, objective.num_patches, generator=torch.Generator().manual_seed(11))
    rank = (noise[:, :, None] > noise[:, None, :]).sum(-1)
    ranking = Ranking(noise.argsort(dim=1), masked=int(objective.num_patches * 0.6))
    assert batch.values is not None
    return objective, weights, batch.values, indices, ranking, rank


@pytest.mark.parametrize("form", FORMS)
def test_loss_and_gradients_equal_the_plain_form(form: str) -> None:
    objective, weights, values, indices, ranking, rank = prepared(form)
    logits = full_logits(objective, weights, values, indices, rank, ranking.masked)
    expected = full_loss(objective, logits, indices, rank, ranking.masked)
    output = objective.step(values, ranking)
    torch.testing.assert_close(output.loss, expected, atol=1e-5, rtol=1e-5)
    output.loss.backward()
    trained = {name: weight for name, weight in weights.items() if weight.requires_grad}
    gradients = torch.autograd.grad(expected, list(trained.values()))
    own = dict(objective.named_parameters())
    for name, gradient in zip(trained, gradients, strict=True):
        found = own[name].grad
        assert found is not None, name
        torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("stem", [{"kind": "conv2x2"}, {"kind": "patchify", "patch_size": 4}], ids=["2 x 2", "4 x 4"])
def test_logits_of_masked_patches_stand_at_their_cells_of_the_grid(form: str, stem: dict[str, Any]) -> None:
    objective, weights, values, indices, ranking, rank = prepared(form, stem)
    full = full_logits(objective, weights, values, indices, rank, ranking.masked)
    found = objective.logits(values, ranking)
    size, columns = objective.cells[0], objective.backbone.patch_grid[1]
    for sample in range(3):
        for place in range(ranking.masked):
            i, j = divmod(int(ranking.order[sample, place]), columns)
            cell = full[sample, size * i : size * (i + 1), size * j : size * (j + 1)].flatten(0, 1)
            torch.testing.assert_close(found[sample, place], cell, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("form", ["released", "paper"])
def test_the_plain_loss_has_no_gradient_at_visible_patches_and_they_are_not_computed(form: str) -> None:
    objective, weights, values, indices, ranking, rank = prepared(form)
    logits = full_logits(objective, weights, values, indices, rank, ranking.masked).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(full_loss(objective, logits, indices, rank, ranking.masked), logits)
    per_patch = objective.by_patch(gradient.abs().sum(-1)).sum(-1)
    assert torch.equal(per_patch > 0, rank < ranking.masked)
    assert objective.logits(values, ranking).shape == (3, ranking.masked, 4, 13)
