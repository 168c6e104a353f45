"""data2vec: the loss from the formulas, the averaged targets, what is seen, and what the average follows."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from tests.models.test_vit import reference_blocks
from tests.objectives.building import CLASSES, context, pixel_batch, stir, token_batch, vit_spec
from tokexp.errors import InputError
from tokexp.models.pixel_input import PixelInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.data2vec import Data2VecObjective
from tokexp.registry import implementation
from tokexp.spec.self_distillation import Data2vec

N = 24
CASES: list[dict[str, Any]] = [
    {}, {"layer": "block"}, {"preset": "released"}, {"norm_average": True, "top_blocks": 3, "beta": 0.3},
]  # fmt: skip


def data2vec(pixels: bool = True, **fields: Any) -> Any:
    """Return an objective of three blocks with stirred weights; its average differs from it."""
    torch.manual_seed(3)
    given = {"kind": "data2vec", "top_blocks": 2, "decay": 0.75, "drop_path": 0.0, "blocks": {"smallest": 4}, **fields}
    spec, vit = Data2vec.model_validate(given), vit_spec(depth=3)
    made = context(vit)
    if pixels:
        made = ObjectiveContext(build_vit(vit, 3, (8, 12)), PixelInput("half"), CLASSES)
    built = implementation("objectives", "data2vec")(spec, made)
    assert isinstance(built, Data2VecObjective)
    stir(built)
    with torch.no_grad():
        for weight in built.average.parameters():
            weight.add_(torch.randn(weight.shape), alpha=0.1)
    return built.eval()


def plain(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def reference_targets(vit: Any, patches: Tensor, spec: Data2vec) -> Tensor:
    """Return y (N, D) of one image's patches (N, D), block by block."""
    rows = torch.cat([vit.class_token[0], patches]) + vit.positions[0]
    outputs = []
    for block in vit.blocks:
        one = torch.nn.Module()
        one.blocks = torch.nn.ModuleList([block])
        after = reference_blocks(one, rows[None], 2)[0]  # type: ignore[arg-type]
        # The MLP is the last part of the sum, so the rows before it are what is left without it.
        attended = rows + block.attn(block.norm1(rows[None]))[0]
        ffn = gelu(block.norm2(attended) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias) @ block.mlp.fc2.weight.T
        ffn = ffn + block.mlp.fc2.bias
        torch.testing.assert_close(attended + ffn, after, atol=1e-5, rtol=1e-5)
        outputs.append(ffn if spec.layer == "ffn" else after)
        rows = after
    average = sum(plain(each[1:]) for each in outputs[-spec.top_blocks :]) / spec.top_blocks
    assert isinstance(average, Tensor)
    return plain(average) if spec.norm_average else average


@pytest.mark.parametrize("fields", CASES)
def test_the_loss_is_the_formula_on_masked_patches_alone(fields: dict[str, Any]) -> None:
    objective, values = data2vec(**fields), pixel_batch().values
    spec, vit, average = objective.spec, objective.backbone, objective.average.backbone
    hidden = objective.draw(4, torch.Generator().manual_seed(1))
    assert values is not None
    losses, targets = [], []
    for image, masked in zip((values - 0.5) / 0.5, hidden, strict=True):
        rows = vit.embed(image[None])[0].clone()
        rows[masked] = objective.mask_vector[0, 0]
        tokens = torch.cat([vit.class_token[0], rows]) + vit.positions[0]
        features = vit.norm(reference_blocks(vit, tokens[None], 2))[0, 1:]
        predicted = (features @ objective.head.weight.T + objective.head.bias)[masked]
        wanted = reference_targets(average, average.embed(image[None])[0], spec)[masked]
        error = (predicted - wanted).abs()
        losses.append(torch.where(error <= spec.beta, 0.5 * error**2 / spec.beta, error - 0.5 * spec.beta))
        targets.append(wanted)
    output = objective.step(values, hidden)
    torch.testing.assert_close(output.loss, torch.cat(losses).mean(), atol=1e-5, rtol=1e-5)
    spread = torch.cat(targets).std(0, correction=0).mean()
    torch.testing.assert_close(output.metrics["spread"], spread.detach(), atol=1e-5, rtol=1e-5)
    assert output.metrics["target_ratio"].item() == pytest.approx(hidden.double().mean().item())


def of_pixels(hidden: Tensor) -> Tensor:
    marked = hidden.float().view(-1, 1, 4, 6)
    return marked.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_the_student_never_sees_masked_patches_and_the_average_sees_all() -> None:
    objective, values = data2vec(), pixel_batch().values
    hidden = objective.draw(4, torch.Generator().manual_seed(1))
    assert values is not None
    changed = values + of_pixels(hidden)
    assert torch.equal(objective.features(changed, hidden), objective.features(values, hidden))
    assert not torch.equal(objective.wanted(changed), objective.wanted(values))
    changed = values + 1 - of_pixels(hidden)
    assert not torch.equal(objective.features(changed, hidden), objective.features(values, hidden))


def test_no_gradient_goes_into_the_average_or_through_the_targets() -> None:
    objective, values = data2vec(), pixel_batch().values
    hidden = objective.draw(4, torch.Generator().manual_seed(1))
    assert values is not None
    values.requires_grad_()
    objective.step(values, hidden).loss.backward()
    assert torch.equal(values.grad * of_pixels(hidden), torch.zeros_like(values))
    assert all(parameter.grad is None for parameter in objective.average.parameters())


@pytest.mark.parametrize("shared", [True, False])
def test_the_average_follows_and_shares_what_embeds_where_it_is_asked_to(shared: bool) -> None:
    objective = data2vec(share_embedding=shared)
    student, average = objective.backbone, objective.average.backbone
    before = {name: value.clone() for name, value in average.named_parameters()}
    objective.after_step()
    for name, value in average.named_parameters():
        own = student.get_parameter(name)
        taken = shared and name.startswith(("stem", "positions", "class_token"))
        torch.testing.assert_close(value, own if taken else 0.75 * before[name] + 0.25 * own)


def test_masks_are_exact_or_what_the_blocks_came_to() -> None:
    exact = data2vec().draw(16, torch.Generator().manual_seed(0)).sum(1)
    assert set(exact.tolist()) == {14}
    ragged = data2vec(blocks={"smallest": 10, "exact": False}).draw(16, torch.Generator().manual_seed(0)).sum(1)
    assert len(set(ragged.tolist())) > 1
    assert ragged.max() <= 14


def test_a_batch_without_any_block_costs_nothing() -> None:
    objective, values = data2vec(), pixel_batch(2).values
    output = objective.step(values, torch.zeros(2, N, dtype=torch.bool))
    assert output.loss.item() == output.metrics["spread"].item() == 0.0


def test_stored_tokens_are_read_as_well() -> None:
    objective = data2vec(pixels=False)
    _, batch = token_batch(objective)
    assert torch.isfinite(objective(batch, torch.Generator().manual_seed(0)).loss)


def test_presets_are_those_of_the_paper_and_of_the_release() -> None:
    paper, released = (Data2vec.model_validate({"kind": "data2vec", "preset": name}) for name in ("paper", "released"))
    assert [spec.predicted(196) for spec in (paper, released)] == [118, 120]
    assert [spec.blocks.exact for spec in (paper, released)] == [True, False]
    assert [spec.layer for spec in (paper, released)] == ["ffn", "block"]
    assert [spec.norm_average for spec in (paper, released)] == [False, True]
    assert [spec.share_embedding for spec in (paper, released)] == [True, False]
    assert [spec.drop_path for spec in (paper, released)] == [0.2, 0.25]
    assert [spec.train.warmup.amount for spec in (paper, released)] == [40, 10]
    for spec in (paper, released):
        assert (spec.top_blocks, spec.beta, spec.decay, spec.train.lr) == (6, 2.0, 0.9998, 2e-3)


def test_more_blocks_than_there_are_cannot_be_averaged() -> None:
    with pytest.raises(InputError, match="4 given; the model has 3 blocks"):
        data2vec(top_blocks=4)


def test_one_batch_can_be_learned() -> None:
    objective, batch = data2vec(decay=0.99).train(), pixel_batch(2)
    hidden = objective.draw(2, torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 2e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(objective.step(batch.values, hidden).loss)
        losses[-1].backward()
        optimizer.step()
        objective.after_step()
    assert losses[-1].item() < 0.3 * losses[0].item()
    assert objective.step(batch.values, hidden).metrics["spread"].item() > 0.1
