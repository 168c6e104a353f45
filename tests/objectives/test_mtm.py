import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.objectives.building import context, mtm, stir, token_batch, vit_spec
from tokexp.errors import InputError
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.masking import Ranking, rank_patches
from tokexp.objectives.mtm import build
from tokexp.objectives.mtm_decoder import decoder_shape
from tokexp.objectives.supervised import build as build_supervised
from tokexp.spec.objectives import DecoderSpec, Mtm, Supervised

RELEASED = Mtm.model_validate({"kind": "mtm", "preset": "released"})


def changed(objective: Any, values: Tensor, patches: Tensor) -> Tensor:
    """Return values with other codes at every token of the given patches (B, n)."""
    columns, (down, across) = objective.backbone.patch_grid[1], objective.cells
    indices = objective.token_input.indices(values)
    for sample, chosen in zip(indices, patches, strict=True):
        for patch in chosen.tolist():
            i, j = divmod(patch, columns)
            sample[down * i : down * (i + 1), across * j : across * (j + 1)] += 1
    codebook = objective.token_input.codebook
    looked_up: Tensor = codebook.lookup(indices % len(codebook))
    return looked_up


def ready(preset: str, samples: int = 2, **options: Any) -> tuple[Any, Tensor, Ranking]:
    """Return an objective in eval mode with stirred weights, values of random codes, and a ranking."""
    objective = mtm(preset, **options).eval()
    stir(objective)
    _, batch = token_batch(objective, samples)
    generator = torch.Generator().manual_seed(4)
    ranking = rank_patches(objective.spec.mask, samples, objective.num_patches, generator)
    assert batch.values is not None
    return objective, batch.values, ranking


def test_the_released_model_has_its_published_size() -> None:
    with torch.device("meta"):
        vit = vit_spec(size="base")
        objective = build(RELEASED, context(vit, "learned", torch.empty(391, 32), (28, 28), positions="sincos"))
        fixed = objective.backbone.positions
    assert sum(p.numel() for p in objective.parameters() if p.requires_grad) == 98_340_455
    assert fixed.numel() == 197 * 768
    assert objective.mask_vector is not None
    assert objective.mask_vector.numel() == 768
    assert sum(p.numel() for p in objective.head.parameters()) == 65_664 + 64 + 391
    assert sum(p.numel() for p in objective.decoder.parameters()) == 393_728 + 100_864 + 4 * 3_152_384 + 1_024


def test_released_lengths_do_not_depend_on_the_ratio() -> None:
    codes = torch.randn(391, 32)
    vit = vit_spec(width=16, depth=1)
    objective = build(RELEASED, context(vit, "learned", codes, (28, 28), positions="sincos")).eval()
    order = torch.rand(2, 196).argsort(1)
    values = torch.randn(2, 32, 28, 28)
    for masked in (79, 120, 196):
        assert objective.encode(values, Ranking(order, masked)).shape == (2, 118, 16)
        assert objective.logits(values, Ranking(order, masked)).shape == (2, masked, 4, 391)


def test_the_released_form_predicts_784_tokens_and_starts_near_the_log_of_the_codes() -> None:
    torch.manual_seed(0)
    objective = build(RELEASED, context(vit_spec(), "learned", torch.randn(391, 32), (28, 28), positions="sincos"))
    _, batch = token_batch(objective)
    assert batch.values is not None
    output = objective.step(batch.values, Ranking(torch.rand(4, 196).argsort(1), 196))
    assert objective.by_patch(objective.token_input.indices(batch.values)).shape == (4, 196, 4)
    assert output.loss.item() == pytest.approx(math.log(391), abs=0.03)
    assert output.metrics["mask_ratio"].item() == 1.0


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_codes_of_any_length_start_near_the_log_of_the_codes(scale: float) -> None:
    objective = mtm("paper", codes=torch.randn(50, 6) * scale + 5 * scale)
    _, batch = token_batch(objective)
    loss = objective(batch, torch.Generator().manual_seed(0)).loss
    assert loss.item() == pytest.approx(math.log(50), abs=0.05)


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_nothing_leaks_from_masked_patches_and_visible_ones_count(preset: str) -> None:
    objective, values, ranking = ready(preset)
    logits = objective.logits(values, ranking)
    masked, visible = ranking.order[:, : ranking.masked], ranking.order[:, ranking.masked :]
    assert torch.equal(objective.logits(changed(objective, values, masked), ranking), logits)
    assert visible.shape[1] > 0
    seen = objective.logits(changed(objective, values, visible[:, :1]), ranking)
    assert (seen - logits).abs().amax((1, 2, 3)).min() > 1e-4


def test_with_everything_masked_logits_do_not_depend_on_the_tokens() -> None:
    objective, values, ranking = ready("released")
    ranking = Ranking(ranking.order, objective.num_patches)
    other = objective.token_input.codebook.lookup(torch.randint(13, (2, 8, 12)))
    assert torch.equal(objective.logits(other, ranking), objective.logits(values, ranking))


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_targets_of_visible_patches_do_not_count(preset: str) -> None:
    objective, values, ranking = ready(preset)
    logits = objective.logits(values, ranking)
    objective.logits = lambda *_: logits
    visible, masked = ranking.order[:, ranking.masked :], ranking.order[:, : ranking.masked]
    loss = objective.step(values, ranking).loss
    assert torch.equal(objective.step(changed(objective, values, visible), ranking).loss, loss)
    assert not torch.equal(objective.step(changed(objective, values, masked[:, :1]), ranking).loss, loss)


def test_slots_of_a_patch_are_its_tokens_row_by_row() -> None:
    objective = mtm("released")
    grid = torch.arange(8 * 12).view(1, 8, 12)
    by_patch = objective.by_patch(grid)
    for i in range(4):
        for j in range(6):
            cells = [grid[0, 2 * i + p, 2 * j + q].item() for p in (0, 1) for q in (0, 1)]
            assert by_patch[0, i * 6 + j].tolist() == cells


def test_the_table_learns_through_the_input_and_not_through_the_head() -> None:
    objective, values, ranking = ready("released")
    table = objective.token_input.table.weight
    features = torch.randn(2, 5, objective.decoder.width)
    objective.head(features, objective.token_input.output_table()).sum().backward()
    assert table.grad is None
    objective.step(values, ranking).loss.backward()
    hidden = (torch.bincount(objective.token_input.indices(values).flatten(), minlength=13) == 0)[:, None]
    assert table.grad.abs().sum() > 0
    assert (table.grad.abs() * hidden).sum() == 0
    everything_masked = Ranking(ranking.order, objective.num_patches)
    table.grad = None
    objective.step(values, everything_masked).loss.backward()
    assert table.grad.abs().sum() == 0


def test_values_off_the_codes_are_predicted_as_their_nearest_codes() -> None:
    objective, values, ranking = ready("released")
    moved = values * 1.7
    assert torch.equal(objective.token_input.indices(moved), objective.token_input.indices(values))
    torch.testing.assert_close(objective.step(moved, ranking).loss, objective.step(values, ranking).loss)


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_masks_come_from_the_generator_alone(preset: str) -> None:
    objective = mtm(preset)
    _, batch = token_batch(objective)
    first = objective(batch, torch.Generator().manual_seed(1))
    torch.manual_seed(99)
    assert torch.equal(objective(batch, torch.Generator().manual_seed(1)).loss, first.loss)
    assert not torch.equal(objective(batch, torch.Generator().manual_seed(2)).loss, first.loss)


@pytest.mark.parametrize("preset", ["released", "paper"])
def test_after_the_second_ratio_no_further_ratio_needs_compiling(preset: str) -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    # A single visible patch would be a length of its own to the compiler.
    fields = {"mask": {"visible": 2}, "decoder": {"depth": 1, "dropout": 0.0}}
    objective = mtm(preset, vit_spec(depth=1), fields, grid=(12, 12))
    counter = CompileCounter()
    compiled = torch.compile(objective, backend=counter)
    _, batch = token_batch(objective)
    generator = torch.Generator().manual_seed(0)
    frames, ratios = [], set()
    for _ in range(8):
        output = compiled(batch, generator)
        ratios.add(round(output.metrics["mask_ratio"].item() * 36))
        frames.append(counter.frame_count)
    torch._dynamo.reset()
    assert len(ratios) > 4
    assert frames[-1] == frames[2] <= 2


def test_learning_lowers_the_loss_on_tokens_that_follow_from_their_neighbours() -> None:
    objective = mtm("released", vit_spec(width=32, depth=1), {"mask": {"high": 0.6}})
    constant = torch.arange(13).repeat(5)[:64, None, None].expand(-1, 8, 12)
    _, batch = token_batch(objective, 64)
    batch = batch.with_values(objective.token_input.codebook.lookup(constant))
    optimizer = torch.optim.AdamW(objective.parameters(), 5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        output = objective(batch, generator)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert output.loss.item() < math.log(13) - 0.3
    assert output.metrics["accuracy"].item() > 0.6


@pytest.mark.parametrize(("preset", "how"), [("released", "learned"), ("paper", "codebook")])
def test_the_trained_encoder_fits_a_classifier_whose_positions_go_on_learning(preset: str, how: str) -> None:
    objective = mtm(preset)
    stir(objective)
    classifier = build_supervised(Supervised(kind="supervised"), context(vit_spec(), how, drop_path=0.1))
    encoder = {n: v for n, v in objective.state_dict().items() if n.startswith(("backbone.", "token_input."))}
    left = classifier.load_state_dict(encoder, strict=False)
    assert left.unexpected_keys == []
    assert left.missing_keys == ["head.weight", "head.bias"]
    assert torch.equal(classifier.backbone.positions, objective.backbone.positions)
    assert classifier.backbone.positions.requires_grad


def test_a_model_that_reads_pixels_is_refused() -> None:
    fitting = context(vit_spec())
    with pytest.raises(InputError, match=r"needs model\.input: tokens"):
        build(RELEASED, ObjectiveContext(fitting.backbone, nn.Identity(), 7))


@pytest.mark.parametrize(
    ("stem", "grid"), [({"kind": "conv2x2", "stride": 1}, (8, 8)), ({"kind": "conv2x2"}, (7, 8))], ids=["s1", "odd"]
)
def test_patches_that_do_not_tile_the_grid_are_refused(stem: dict[str, Any], grid: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="tile the token grid"):
        build(RELEASED, context(vit_spec(stem=stem), "learned", grid=grid))


def test_keeping_every_patch_visible_is_refused() -> None:
    spec = Mtm.model_validate({"kind": "mtm", "mask": {"visible": 24}})
    with pytest.raises(InputError, match=r"visible \(24\) must be below the number of patches \(24\)"):
        build(spec, context(vit_spec()))


@pytest.mark.parametrize(
    ("fields", "encoder", "shape"),
    [
        ({}, 768, (512, 16)), ({}, 384, (256, 8)), ({}, 192, (128, 4)), ({}, 32, (21, 1)), ({}, 100, (66, 2)),
        ({"width": 96}, 768, (96, 3)), ({"width": 80}, 768, (80, 2)), ({"width": 100}, 768, (100, 2)),
        ({"heads": 3}, 32, (21, 3)), ({"width": 64, "heads": 8}, 768, (64, 8)),
    ],
)  # fmt: skip
def test_the_decoders_sizes_follow_from_what_is_given(
    fields: dict[str, int], encoder: int, shape: tuple[int, int]
) -> None:
    assert decoder_shape(DecoderSpec(**fields), encoder) == shape


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"heads \(3\) must divide width \(64\)"):
        decoder_shape(DecoderSpec(width=64, heads=3), 768)
