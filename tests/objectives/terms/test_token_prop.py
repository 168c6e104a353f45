"""TokenProp against the decoder and the loss as its paper gives them, written here once more."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d, gelu, interpolate, max_pool2d
from torch.utils.flop_counter import FlopCounterMode

from tests.objectives.terms.classifiers import SMALL, batch, beside, classifier, gradients
from tokexp.errors import DataError
from tokexp.models.base import Backbone
from tokexp.objectives.terms.pixel_decoder import PixelDecoder, Row
from tokexp.objectives.terms.token_prop import TokenPropagation
from tokexp.objectives.terms.vgg_distance import VggDistance, contextual
from tokexp.spec.token_prop import TokenProp
from tokexp.vgg import vgg19


def spec(**fields: Any) -> TokenProp:
    return TokenProp.model_validate({"kind": "token_prop", **fields})


def decoder(width: int = 12, grid: tuple[int, int] = (7, 7), **fields: Any) -> PixelDecoder:
    torch.manual_seed(0)
    return PixelDecoder(spec(**{"grid": 8, "size": 32, "rows": (16, 8, 8), **fields}), width, grid, 3)


def term(**fields: Any) -> TokenPropagation:
    found = beside({**SMALL, **fields}).terms["token_prop"]
    assert isinstance(found, TokenPropagation)
    return found


def shuffled(maps: Tensor) -> Tensor:
    """Return maps (B, 4 C, H, W) as (B, C, 2 H, 2 W): each four channels fill a cell of 2 x 2, row by row."""
    found = maps.new_empty(maps.shape[0], maps.shape[1] // 4, 2 * maps.shape[2], 2 * maps.shape[3])
    for number in range(4):
        found[:, :, number // 2 :: 2, number % 2 :: 2] = maps[:, number::4]
    return found


def decoded_by_hand(built: PixelDecoder, maps: Tensor) -> Tensor:
    """Return table 16 with rows of one convolution and a skip, shuffled before the last two rows."""
    last = len(built.rows) - 1
    for number, row in enumerate(built.rows):
        maps = gelu(maps) if number else maps
        maps = shuffled(maps) if number >= last - 1 else maps
        first: Any = row.first
        skipped = maps if first.in_channels == first.out_channels else conv2d(maps, row.skip.weight)  # type: ignore[union-attr]
        maps = conv2d(maps, first.weight, first.bias, padding=1) + skipped
    return maps


def test_the_decoder_is_table_16() -> None:
    built, patches = decoder(), torch.randn(2, 12, 7, 7)
    expected = decoded_by_hand(built, interpolate(patches, (8, 8), mode="bilinear"))
    torch.testing.assert_close(built(patches), expected, atol=1e-5, rtol=1e-4)


def test_many_patches_are_averaged_onto_the_decoders_grid() -> None:
    built, patches = decoder(grid=(24, 24)), torch.randn(2, 12, 24, 24)
    expected = decoded_by_hand(built, adaptive_avg_pool2d(patches, (8, 8)))
    torch.testing.assert_close(built(patches), expected, atol=1e-5, rtol=1e-4)


def test_read_literally_every_patch_becomes_a_map_of_its_own() -> None:
    built, patches = decoder(grid=(7, 7), layout="channels"), torch.randn(2, 12, 7, 7)
    assert built.to_map is not None
    stacked = built.to_map(patches.flatten(2).transpose(1, 2)).view(2, 49, 8, 8)
    torch.testing.assert_close(built(patches), decoded_by_hand(built, stacked), atol=1e-5, rtol=1e-4)


def test_a_row_of_two_convolutions_has_its_skip_beside_both() -> None:
    torch.manual_seed(0)
    built, maps = Row(6, 4, "double"), torch.randn(2, 6, 5, 5)
    assert built.skip is not None
    expected = built.second(gelu(built.first(maps))) + conv2d(maps, built.skip.weight)  # type: ignore[misc]
    torch.testing.assert_close(built(maps), expected)
    kept, same = Row(4, 4, "double"), torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(kept(same), kept.second(gelu(kept.first(same))) + same)  # type: ignore[misc]
    assert kept.skip is None


@pytest.mark.parametrize(
    ("width", "grid", "fields", "parameters", "multiplications"),
    [
        (384, 14, {"block": "plain"}, 1.512, 0.417), (768, 14, {"block": "plain"}, 2.397, 0.643),
        (96, 56, {"block": "plain"}, 0.849, 0.247), (64, 56, {"block": "plain"}, 0.775, 0.228),
        (384, 14, {}, 1.611, 0.417), (768, 14, {}, 2.594, 0.643),
        (96, 56, {}, 0.874, 0.247), (64, 56, {}, 0.792, 0.228),
        (384, 14, {"block": "double"}, 2.828, 0.782), (64, 56, {"block": "double"}, 2.009, 0.573),
        (384, 14, {"block": "plain", "rows": (256, 64)}, 0.922, 0.266),
        (384, 14, {"block": "plain", "layout": "channels"}, 1.079 + 0.099, 0.306 + 0.019),
        (384, 14, {"preset": "paper"}, 1.130 + 0.099, 0.306 + 0.019),
    ],
)  # fmt: skip
def test_decoders_of_the_four_families_have_their_sizes(
    width: int, grid: int, fields: dict[str, Any], parameters: float, multiplications: float
) -> None:
    built = PixelDecoder(spec(**fields), width, (grid, grid), 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        assert built(torch.zeros(1, width, grid, grid)).shape == (1, 3, 64, 64)
    assert sum(p.numel() for p in built.parameters()) / 1e6 == pytest.approx(parameters, abs=1e-3)
    assert counter.get_total_flops() / 2e9 == pytest.approx(multiplications, abs=1e-3)


@pytest.mark.parametrize(
    ("fields", "widths"),
    [
        ({}, (256, 256, 64)), ({"size": 128}, (256, 256, 64, 64)), ({"size": 32}, (256, 256)),
        ({"width_factor": 2}, (512, 512, 128)), ({"rows": (256, 64), "width_factor": 4}, (1024, 256)),
    ],
)  # fmt: skip
def test_larger_pictures_take_more_rows_and_factors_widen_them(fields: dict[str, Any], widths: tuple[int, ...]) -> None:
    found = spec(**fields)
    assert found.widths() == widths
    assert PixelDecoder(found, 8, (4, 4), 3)(torch.randn(1, 8, 4, 4)).shape[-1] == found.size


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": 48}, "power of 2"), ({"size": 8}, "power of 2"), ({"rows": (256,)}, "2 doublings"),
        ({"rows": (256, 64, 62)}, "multiple of 4"), ({"distance": "perceptual"}, "vgg"), ({"vgg": "file"}, "vgg"),
        ({"preset": "released"}, "no code of TokenProp was released"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(**fields)


@pytest.mark.parametrize(("distance", "power"), [("l2", 2), ("l1", 1)])
def test_the_distance_is_summed_over_a_picture_and_averaged_over_pictures(distance: str, power: int) -> None:
    found, target = torch.randn(2, 5, 3, 8, 8)
    by_sum, by_mean = (term(distance=distance, reduction=how).distance(found, target) for how in ("sum", "mean"))
    per_image = (found - target).abs().pow(power).sum((1, 2, 3))
    torch.testing.assert_close(by_sum, per_image.mean())
    torch.testing.assert_close(by_sum, by_mean * 192)


def test_at_the_papers_size_the_sum_is_12288_times_the_mean() -> None:
    found, target = torch.randn(2, 2, 3, 64, 64)
    terms = [term(reduction=how, size=64, grid=16, rows=(8, 8)) for how in ("sum", "mean")]
    by_sum, by_mean = (each.distance(found, target) for each in terms)
    assert (by_sum / by_mean).item() == pytest.approx(12288, rel=1e-5)


def test_the_target_is_what_the_network_reads_mixed_pixels_and_all() -> None:
    given = batch()
    assert given.values is not None
    mixed = 0.3 * given.values + 0.7 * given.values.flip(0)
    read = (mixed - 0.5) / 0.5
    whole = term(size=16, rows=(16, 8))
    assert torch.equal(whole.target(read), read)
    expected = interpolate(read, (8, 8), mode="bilinear", antialias=True)
    assert torch.equal(term().target(read), expected)
    assert not term().target(read.requires_grad_()).requires_grad


def test_the_term_compares_what_the_stem_read_with_what_it_gave() -> None:
    objective = beside(SMALL)
    found, given = objective.terms["token_prop"], batch()
    assert isinstance(found, TokenPropagation)
    output = objective(given, torch.Generator())
    assert given.values is not None
    read = (given.values - 0.5) / 0.5
    backbone: Any = objective.objective.backbone
    expected = (found.decoder(backbone.stem(read)) - found.target(read)).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(output.metrics["token_prop"], expected)


def test_several_views_are_averaged() -> None:
    objective = classifier()
    found = TokenPropagation(spec(**SMALL), objective.backbone)
    first, second = torch.randn(2, 4, 3, 16, 16)
    losses = []
    for views in ((first,), (second,), (first, second)):
        found.begin()
        for view in views:
            objective.backbone.embed(view)
        losses.append(found.loss(batch(), torch.Generator()))
    torch.testing.assert_close(losses[2], (losses[0] + losses[1]) / 2)


def test_what_the_stem_does_outside_of_a_step_is_not_counted() -> None:
    objective = beside(SMALL)
    before = objective(batch(), torch.Generator()).metrics["token_prop"]
    backbone: Any = objective.objective.backbone
    assert isinstance(backbone, Backbone)
    backbone(torch.randn(2, 3, 16, 16))
    assert torch.equal(objective(batch(), torch.Generator()).metrics["token_prop"], before)


def test_a_step_that_never_used_the_stem_is_an_error() -> None:
    found = term()
    found.begin()
    with pytest.raises(ValueError, match="did not use"):
        found.loss(batch(), torch.Generator())


def test_the_body_gets_no_gradient_of_it_and_stem_and_decoder_one_in_proportion() -> None:
    none, one, two = (gradients(beside({**SMALL, "weight": weight})) for weight in (0.0, 0.01, 0.02))
    for name in none:
        if ".stem." in name or name.startswith("terms."):
            torch.testing.assert_close(two[name] - none[name], 2 * (one[name] - none[name]), atol=1e-6, rtol=1e-3)
            assert (one[name] - none[name]).abs().sum() > 0
        else:
            assert torch.equal(one[name], none[name]), name


def test_a_copy_watches_its_own_stem() -> None:
    objective = beside(SMALL)
    other = copy.deepcopy(objective)
    with torch.no_grad():
        for parameter in other.objective.backbone.stem.parameters():  # type: ignore[union-attr, operator]
            parameter.zero_()
    found = [each(batch(), torch.Generator()).metrics["token_prop"] for each in (objective, other)]
    assert not torch.equal(*found)


def test_one_batch_can_be_learned_by_heart() -> None:
    objective, given = beside({**SMALL, "weight": 0.1}), batch()
    optimizer = torch.optim.Adam(objective.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        output = objective(given, torch.Generator())
        output.loss.backward()
        optimizer.step()
        losses.append(output.metrics["token_prop"].item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a file of random weights of VGG-19 (its classifier left small by views of one tensor)."""
    torch.manual_seed(0)
    network = vgg19(weights=None, init_weights=False)
    file = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    state = network.state_dict()
    state = {name: torch.zeros(()).expand_as(v) if name.startswith("classifier") else v for name, v in state.items()}
    torch.save(state, file)
    return str(file)


@pytest.mark.parametrize("distance", ["perceptual", "contextual"])
def test_distances_by_vgg_are_smallest_between_a_picture_and_itself(vgg: str, distance: str) -> None:
    measure = VggDistance(vgg, distance)
    found, target = torch.randn(2, 2, 3, 32, 32)
    away = found.requires_grad_()
    loss = measure(away, target)
    loss.backward()
    assert away.grad is not None
    assert away.grad.abs().sum() > 0
    assert measure(target, target) < loss
    assert not any(parameter.requires_grad for parameter in measure.parameters())


def test_the_perceptual_distance_is_the_mean_squared_difference_of_features(vgg: str) -> None:
    found, target = torch.randn(2, 2, 3, 16, 16)
    measured = VggDistance(vgg, "perceptual")(found, target)
    # VGG-19's blocks of convolutions; a feature is read after each block's second, or fourth.
    state, number, differences = torch.load(vgg, weights_only=True), 0, []
    for convolutions in (2, 2, 4, 4):
        for _ in range(convolutions):
            weight, bias = state[f"features.{number}.weight"], state[f"features.{number}.bias"]
            found, target = (conv2d(maps, weight, bias, padding=1).clamp_min(0) for maps in (found, target))
            number += 2
        differences.append((found - target).square().mean())
        found, target = (max_pool2d(maps, 2) for maps in (found, target))
        number += 1
    torch.testing.assert_close(measured, torch.stack(differences).mean())


def test_a_distance_by_features_is_not_summed_over_pixels(vgg: str) -> None:
    found, target = torch.randn(2, 2, 3, 16, 16)
    fields = {"distance": "perceptual", "vgg": vgg, "size": 16, "rows": (16, 8)}
    by_sum, by_mean = (term(**fields, reduction=how).distance(found, target) for how in ("sum", "mean"))
    assert torch.equal(by_sum, by_mean)
    torch.testing.assert_close(by_sum, VggDistance(vgg, "perceptual")(found, target))


def test_the_contextual_distance_is_its_equations() -> None:
    found, target = torch.randn(2, 2, 6, 3, 3)
    expected = []
    for one, other in zip(found, target, strict=True):
        centre = other.mean((1, 2))
        x, y = ((part.flatten(1) - centre[:, None]).T for part in (one, other))
        cosine = torch.stack([torch.stack([torch.dot(a, b) / a.norm() / b.norm() for b in y]) for a in x])
        relative = (1 - cosine) / ((1 - cosine).amin(1, keepdim=True) + 1e-5)
        weight = ((1 - relative) / 0.5).exp()
        likeness = weight / weight.sum(1, keepdim=True)
        expected.append(-likeness.amax(0).mean().log())
    torch.testing.assert_close(contextual(found, target), torch.stack(expected).mean(), atol=1e-4, rtol=1e-4)


def test_a_file_that_is_not_vggs_is_named(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, file)
    with pytest.raises(DataError, match=r"weights\.pth: these are not weights"):
        VggDistance(str(file), "perceptual")
    with pytest.raises(DataError, match="not weights"):
        VggDistance(str(tmp_path / "absent.pth"), "perceptual")
