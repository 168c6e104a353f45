"""mae: what the encoder sees, what is predicted, and the loss against one from the formulas."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from tests.models.test_vit import reference_blocks
from tests.objectives.building import CLASSES, context, pixel_batch, stir, vit_spec
from tokexp.errors import InputError
from tokexp.models.pixel_input import PixelInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.mae import MaskedAutoencoding, patch_content, standardised
from tokexp.registry import implementation
from tokexp.spec.masked_autoencoding import Mae
from tokexp.spec.objectives import ObjectiveSpec

DECODER = {"width": 16, "depth": 2, "heads": 2}
MORPHED = {"target": {"kind": "momentum", "decay": 0.5}, "schedule": {"iterations": [1, 4]}}


def mae(pixels: bool = True, **fields: Any) -> Any:
    torch.manual_seed(3)
    spec: Any = TypeAdapter(ObjectiveSpec).validate_python({"kind": "mae", "decoder": DECODER, **fields})
    made = context(vit_spec(), positions="sincos")
    if pixels:
        made = ObjectiveContext(build_vit(vit_spec(), 3, (8, 12), positions="sincos"), PixelInput("half"), CLASSES)
    built = implementation("objectives", "mae")(spec, made)
    assert isinstance(built, MaskedAutoencoding)
    stir(built)
    return built.eval()


def test_a_patchs_content_is_its_pixels_row_by_row() -> None:
    values = torch.arange(2 * 4 * 6).float().view(1, 2, 4, 6)
    content = patch_content(values, (2, 3))
    assert content.shape == (1, 6, 8)
    assert content[0, 4].tolist() == values[0, :, 2:4, 2:4].flatten().tolist()


def test_standardised_rows_are_those_of_the_release() -> None:
    rows = torch.randn(5, 12) * 3 + 2
    expected = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, keepdim=True) + 1e-6) ** 0.5
    torch.testing.assert_close(standardised(rows), expected)
    assert torch.equal(standardised(torch.ones(2, 1)), torch.zeros(2, 1))


@pytest.mark.parametrize("standardise", [True, False])
def test_the_loss_is_the_formula(standardise: bool) -> None:
    objective, values = mae(standardise=standardise), pixel_batch().values
    order = objective.draw(4, torch.Generator().manual_seed(1))
    found = objective.reconstruction(objective.features(values, order), values, order)
    vit, decoder, losses = objective.backbone, objective.decoder, []
    pixels = (values - 0.5) / 0.5
    for image, ranks in zip(pixels, order, strict=True):
        seen, hidden = ranks[:6], ranks[6:]
        patches = vit.embed(image[None])[0] + vit.positions[0, 1:]
        tokens = torch.cat([vit.class_token[0] + vit.positions[0, :1], patches[seen]])
        encoded = vit.norm(reference_blocks(vit, tokens[None], 2))[0] @ decoder.embed.weight.T + decoder.embed.bias
        rows = decoder.fill[0].repeat(25, 1)
        rows[0], rows[1 + seen] = encoded[0], encoded[1:]
        decoded = decoder.norm(reference_blocks(decoder, (rows + decoder.positions[0])[None], 2))[0, 1:]
        for patch in hidden.tolist():
            row, column = divmod(patch, 6)
            wanted = image[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten()
            wanted = (wanted - wanted.mean()) / (wanted.var() + 1e-6).sqrt() if standardise else wanted
            predicted = decoded[patch] @ objective.head.weight.T + objective.head.bias
            losses.append((predicted - wanted).square().mean())
    torch.testing.assert_close(found, torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)


def test_the_encoder_never_sees_masked_patches_and_the_loss_no_visible_ones() -> None:
    objective, values = mae(), pixel_batch().values
    order = objective.draw(4, torch.Generator().manual_seed(1))
    hidden = torch.zeros(4, 24).scatter(1, order[:, 6:], 1.0).view(4, 1, 4, 6)
    of_pixels = hidden.repeat_interleave(2, 2).repeat_interleave(2, 3)
    noise = torch.rand(values.shape, generator=torch.Generator().manual_seed(2))
    features = objective.features(values, order)
    assert torch.equal(objective.features(values + noise * of_pixels, order), features)
    before = objective.reconstruction(features, values, order)
    assert torch.equal(objective.reconstruction(features, values + noise * (1 - of_pixels), order), before)
    assert not torch.equal(objective.reconstruction(features, values + noise * of_pixels, order), before)


def test_of_stored_tokens_the_codes_vectors_are_predicted() -> None:
    objective = mae(pixels=False)
    assert objective.head.out_features == 6 * 4


def test_a_quarter_of_the_patches_stays_visible() -> None:
    assert [196 - Mae(kind="mae").predicted(196), 16 - Mae(kind="mae", ratio=0.5).predicted(16)] == [49, 8]
    assert Mae(kind="mae", ratio=0.99).predicted(4) == 3


def test_a_teacher_alone_has_no_pixel_head_and_all_patches_count() -> None:
    objective, batch = mae(reconstruct=False, dtm=MORPHED), pixel_batch()
    output = objective(batch, torch.Generator().manual_seed(0))
    assert objective.head is None
    assert torch.equal(output.loss, output.metrics["morphing"])
    objective(batch, torch.Generator().manual_seed(0)).loss.backward()
    assert objective.decoder.fill.grad.abs().sum() > 0


def test_both_losses_add_up_with_their_weight() -> None:
    objective, batch = mae(dtm={**MORPHED, "weight": 0.5}), pixel_batch()
    output = objective(batch, torch.Generator().manual_seed(0))
    torch.testing.assert_close(output.loss, output.metrics["reconstruction"] + output.metrics["morphing"])
    draws = torch.Generator().manual_seed(0)
    order = objective.draw(4, draws)
    features = objective.features(batch.values, order)
    morphing = objective.term.loss(features, objective.term.morphed(batch.values, draws)).loss
    torch.testing.assert_close(output.metrics["morphing"], 0.5 * morphing)


def test_a_moving_average_follows() -> None:
    objective = mae(dtm=MORPHED)
    average = objective.term.target.backbone.class_token
    before = average.clone()
    objective.after_step()
    torch.testing.assert_close(average, (before + objective.backbone.class_token) / 2)


def test_patches_that_do_not_tile_and_nothing_to_learn_are_refused() -> None:
    spec = Mae.model_validate({"kind": "mae", "decoder": DECODER})
    made = ObjectiveContext(build_vit(vit_spec("conv4x4"), 3, (9, 12)), PixelInput("half"), CLASSES)
    with pytest.raises(InputError, match="must tile"):
        implementation("objectives", "mae")(spec, made)
    with pytest.raises(ValidationError, match="leaves nothing to learn"):
        Mae(kind="mae", reconstruct=False)
