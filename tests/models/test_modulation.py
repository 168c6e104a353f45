"""MoTo against loops over regions and positions that are written here from its equations."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, instance_norm

from tests.objectives.building import stir
from tokexp.models.modulation import ModulatedBlock, Modulation, build_modulation, evenly_spaced
from tokexp.models.regional_norm import literal_norm, regional_norm
from tokexp.spec.stems import MotoStem

LINE = torch.tensor([[[0.0, 2.0, 10.0, 14.0]]])
"""One channel at four positions."""


def spec(**fields: Any) -> MotoStem:
    return MotoStem.model_validate({"kind": "moto", **fields})


def modulation(channels: int = 5, kernel: int = 1, **fields: Any) -> Modulation:
    torch.manual_seed(2)
    built = build_modulation(spec(**{"entities": 4, **fields}), channels, kernel)
    assert isinstance(built, Modulation)
    stir(built)
    return built


def maps(images: int = 3, channels: int = 5, rows: int = 6, columns: int = 8) -> Tensor:
    return torch.randn(images, channels, rows, columns, generator=torch.Generator().manual_seed(4))


def soft(images: int, regions: int, positions: int, sharpness: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    return (sharpness * torch.randn(images, regions, positions, generator=generator)).softmax(1)


def unit(regions: int, channels: int = 1) -> tuple[Tensor, Tensor]:
    return torch.ones(regions, channels), torch.zeros(regions, channels)


def by_loops(x: Tensor, layout: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Return equation 5 region by region, in float64, with weighted mean and deviation."""
    x, layout, scale, shift = (part.double() for part in (x, layout, scale, shift))
    found = torch.zeros_like(x)
    for image in range(len(x)):
        for region in range(layout.shape[1]):
            share = layout[image, region] / layout[image, region].sum()
            mean = (share * x[image]).sum(-1, keepdim=True)
            deviation = (share * (x[image] - mean) ** 2).sum(-1, keepdim=True).sqrt()
            normed = (x[image] - mean) / (deviation + eps) * scale[region][:, None] + shift[region][:, None]
            found[image] += layout[image, region] * normed
    return found


def test_a_module_in_double_precision_works_in_it() -> None:
    module, x = modulation().eval(), maps()
    found = module.double()(x.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(module.float()(x), found.float(), atol=1e-4, rtol=1e-4)


def test_a_uniform_layout_is_instance_normalisation() -> None:
    x = maps().flatten(2)
    found = regional_norm(x, torch.full((3, 7, 48), 1 / 7), *unit(7, 5), eps=1e-7)
    torch.testing.assert_close(found, instance_norm(x, eps=1e-14), atol=2e-5, rtol=0)


@pytest.mark.parametrize("kernel", [1, 3])
def test_one_region_is_instance_normalisation_whatever_the_weights(kernel: int) -> None:
    built, x = modulation(entities=1, affine=False, kernel=kernel, eps=1e-7), maps()
    torch.testing.assert_close(built(x), instance_norm(x, eps=1e-14), atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]], [-1.0, 1.0, -1.0, 1.0]),
        ([[0.5] * 4, [0.5] * 4], [-1.1359, -0.7864, 0.6116, 1.3107]),
    ],
    ids=["two hard regions", "uniform"],
)
def test_four_positions_by_hand(layout: list[list[float]], expected: list[float]) -> None:
    found = regional_norm(LINE, torch.tensor([layout]), *unit(2), eps=1e-9)
    torch.testing.assert_close(found, torch.tensor([[expected]]), atol=2e-4, rtol=0)


def test_the_literal_statistics_make_the_output_as_many_times_too_large_as_there_are_regions() -> None:
    found = literal_norm(LINE, torch.full((1, 2, 4), 0.5), *unit(2), eps=1e-9)
    torch.testing.assert_close(found, torch.tensor([[[-1.1359, -0.4369, 2.3590, 3.7570]]]), atol=1e-3, rtol=0)
    x = maps(1).flatten(2)
    uniform = torch.full((1, 8, 48), 1 / 8)
    literal, weighted = literal_norm(x, uniform, *unit(8, 5), 1e-9), regional_norm(x, uniform, *unit(8, 5), 1e-9)
    assert (literal.std(-1) / weighted.std(-1)).mean().item() == pytest.approx(8.0, rel=1e-3)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_products_equal_the_loop_over_regions_in_value_and_gradient(offset: float) -> None:
    x, layout = maps(2).flatten(2) + offset, soft(2, 4, 48)
    generator = torch.Generator().manual_seed(1)
    scale, shift = torch.randn(4, 5, generator=generator), torch.randn(4, 5, generator=generator)
    weight = torch.randn(x.shape, generator=generator)
    results = []
    for way in (regional_norm, by_loops):
        given = [part.clone().requires_grad_() for part in (x, layout, scale, shift)]
        found = way(*given, eps=1e-5)
        results.append((found.float(), *torch.autograd.grad((found * weight).sum(), given)))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=2e-4)


def test_the_gradient_by_hand_passes_a_numerical_check() -> None:
    x, layout = maps(2, 2, 2, 3).flatten(2).double(), soft(2, 3, 6).double()
    given = [part.requires_grad_() for part in (x, layout, torch.rand(3, 2).double(), torch.rand(3, 2).double())]
    assert torch.autograd.gradcheck(lambda *parts: regional_norm(*parts, 1e-3), given)


def test_large_means_lose_no_digits() -> None:
    x, layout = maps(1).flatten(2), soft(1, 4, 48)
    near, far = (regional_norm(x + offset, layout, *unit(4, 5), 1e-5) for offset in (0.0, 4096.0))
    torch.testing.assert_close(far, near, atol=5e-3, rtol=0)


def test_a_scaled_input_gives_the_same_under_the_same_layout() -> None:
    x, layout = maps(1).flatten(2), soft(1, 4, 48)
    scaled = regional_norm(7.0 * x, layout, *unit(4, 5), 1e-9)
    torch.testing.assert_close(scaled, regional_norm(x, layout, *unit(4, 5), 1e-9), atol=1e-4, rtol=0)


def test_hard_regions_have_the_mean_and_the_deviation_that_were_learned() -> None:
    x = maps(1).flatten(2)
    labels = torch.arange(48) % 3
    layout = torch.nn.functional.one_hot(labels).T[None].float()
    generator = torch.Generator().manual_seed(1)
    scale, shift = torch.randn(3, 5, generator=generator), torch.randn(3, 5, generator=generator)
    found = regional_norm(x, layout, scale, shift, 1e-9)[0]
    for region in range(3):
        inside = found[:, labels == region]
        torch.testing.assert_close(inside.mean(-1), shift[region], atol=1e-5, rtol=0)
        torch.testing.assert_close(inside.std(-1, unbiased=False), scale[region].abs(), atol=1e-4, rtol=0)


def test_empty_regions_and_constant_channels_stay_finite_in_value_and_gradient() -> None:
    x = maps(1).flatten(2)
    x[:, 2] = 3.0
    layout = torch.zeros(1, 4, 48)
    layout[:, 1] = 1.0
    given = [part.clone().requires_grad_() for part in (x, layout, *unit(4, 5))]
    found = regional_norm(*given, eps=1e-5)
    gradients = torch.autograd.grad(found.square().sum(), given)
    assert all(torch.isfinite(part).all() for part in (found, *gradients))


def activation_by_loops(built: Modulation, x: Tensor, positions: Tensor, kernel: int) -> Tensor:
    """Return equation 3 from the convolutions k, q and f at all positions; positions (B, n)."""
    key = torch.einsum("dc,bchw->bdhw", built.key.weight, x) + built.key.bias[:, None, None]
    query = torch.einsum("dc,bchw->bdhw", built.query.weight, x) + built.query.bias[:, None, None]
    semantic = conv2d(x, built.semantic.weight, built.semantic.bias, padding=kernel // 2).flatten(2)
    found = torch.empty_like(semantic)
    for image in range(len(x)):
        for region in range(semantic.shape[1]):
            sampled = key[image].flatten(1)[:, positions[image, region]]
            found[image, region] = built.dictionary[region] * (sampled @ query[image].flatten(1))
    return found + semantic


@pytest.mark.parametrize(("kernel", "width"), [(1, "auto"), (1, "full"), (3, "eighth")])
def test_the_activation_is_equation_3(kernel: int, width: str) -> None:
    built, x = modulation(kernel=kernel, key_width=width).eval(), maps()
    positions = evenly_spaced(4, 6, 8, torch.device("cpu")).expand(3, -1)
    expected = activation_by_loops(built, x, positions, kernel)
    torch.testing.assert_close(built.activation(x), expected, atol=1e-5, rtol=1e-4)


def test_the_whole_module_is_the_equations_one_after_another() -> None:
    built, x = modulation().eval(), maps()
    positions = evenly_spaced(4, 6, 8, torch.device("cpu")).expand(3, -1)
    layout = torch.exp(0.1 * activation_by_loops(built, x, positions, 1))
    layout = layout / layout.sum(1, keepdim=True)
    expected = by_loops(x.flatten(2), layout, built.scale, built.shift, 1e-5)
    torch.testing.assert_close(built(x).flatten(2), expected.float(), atol=1e-5, rtol=1e-4)


def test_without_sampling_the_semantic_feature_alone_decides() -> None:
    built, x = modulation(eval_sampling="off").eval(), maps()
    torch.testing.assert_close(built.activation(x), built.semantic(x).flatten(2))


def test_a_layout_sums_to_one_and_its_entropy_lies_between_none_and_uniform() -> None:
    layout = modulation(temperature=3.0).layout(maps())
    torch.testing.assert_close(layout.sum(1), torch.ones(3, 48))
    entropy = -(layout * layout.log()).sum(1)
    assert 0 <= entropy.min() < entropy.max() <= torch.tensor(4.0).log() + 1e-6


def test_the_temperature_multiplies_and_so_softens() -> None:
    x = maps()
    cold, warm = (modulation(temperature=value).layout(x).amax(1).mean() for value in (10.0, 0.1))
    assert warm < 0.3 < 0.7 < cold


def test_a_hard_layout_takes_the_likeliest_region_and_trains_the_affine_alone() -> None:
    built, x = modulation(partition="hard").eval(), maps()
    layout = built.layout(x)
    assert torch.equal(layout.argmax(1), built.activation(x).argmax(1))
    assert set(layout.unique().tolist()) == {0.0, 1.0}
    built(x).square().sum().backward()
    zero = {name for name, parameter in built.named_parameters() if not parameter.grad.abs().sum()}  # type: ignore[union-attr]
    assert zero == {n for n, _ in built.named_parameters() if n.split(".")[0] not in ("scale", "shift")}


def test_a_gate_that_is_still_closed_changes_nothing() -> None:
    torch.manual_seed(0)
    built, x = build_modulation(spec(gate=True, value=True), 5, 1), maps()
    assert torch.equal(built(x), x)


def test_permuted_positions_permute_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    built, x = modulation(), maps(1, 5, 4, 6)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
    sampled = torch.tensor([[3, 8, 14, 21]])
    monkeypatch.setattr(built, "positions", lambda x: sampled)
    expected = built(x).flatten(2)[..., order]
    monkeypatch.setattr(built, "positions", lambda x: order.argsort()[sampled])
    shuffled = x.flatten(2)[..., order].view_as(x)
    torch.testing.assert_close(built(shuffled).flatten(2), expected, atol=1e-5, rtol=1e-4)


def test_sampled_positions_are_distinct_inside_the_map_and_shared_by_the_batch() -> None:
    built, x = modulation(entities=20), maps()
    drawn = built.positions(x)
    assert drawn is not None
    assert drawn.shape == (1, 20)
    assert len(set(drawn[0].tolist())) == 20
    assert 0 <= drawn.min() <= drawn.max() < 48
    assert not torch.equal(built.positions(x), drawn)  # type: ignore[arg-type]


def test_positions_of_each_image_are_its_own_where_asked_for() -> None:
    drawn = modulation(entities=20, sampling="per_image").positions(maps())
    assert drawn is not None
    assert len({tuple(row) for row in drawn.tolist()}) == 3
    assert all(len(set(row)) == 20 for row in drawn.tolist())


def test_with_replacement_positions_come_twice() -> None:
    drawn = modulation(entities=200, replacement=True).positions(maps())
    assert drawn is not None
    assert len(drawn.unique()) < 49


def test_equal_seeds_draw_equal_positions() -> None:
    built, x = modulation(), maps()
    first, second = (torch.manual_seed(5) and built(x) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("count", "rows", "columns", "expected"),
    [
        (4, 4, 4, [5, 7, 13, 15]),
        (8, 4, 8, [9, 11, 13, 15, 25, 27, 29, 31]),
        (3, 9, 1, [1, 4, 7]),
        (1, 5, 5, [12]),
        (7, 4, 4, [1, 3, 5, 8, 10, 12, 14]),
    ],
)
def test_evenly_spaced_positions_are_the_middles_of_equal_cells(
    count: int, rows: int, columns: int, expected: list[int]
) -> None:
    assert evenly_spaced(count, rows, columns, torch.device("cpu")).tolist() == expected


def test_half_precision_gives_the_result_of_float32() -> None:
    built, x = modulation().eval(), maps().half()
    found = built(x)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), built(x.float()), atol=2e-3, rtol=2e-3)


def test_no_array_of_regions_times_channels_times_positions_is_made() -> None:
    sizes: list[int] = []

    class Noting(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            sizes.extend(part.numel() for part in torch.utils._pytree.tree_leaves(result) if isinstance(part, Tensor))
            return result

    built, x = modulation(16, entities=8), maps(1, 16, 32, 32).requires_grad_()
    with Noting():
        built(x).sum().backward()
    assert max(sizes) <= 16 * 1024


@pytest.mark.parametrize("channels", [16, 64])
@pytest.mark.parametrize(("kernel", "width"), [(1, "auto"), (3, "full")])
def test_the_number_of_parameters_is_the_formula(channels: int, kernel: int, width: str) -> None:
    built = modulation(channels, kernel, entities=8, key_width=width)
    keys = channels if width == "full" else max(8, channels // 8)
    expected = 2 * (channels * keys + keys) + (channels * 8 * kernel**2 + 8) + 8 + 2 * 8 * channels
    assert sum(parameter.numel() for parameter in built.parameters()) == expected


def test_the_dictionary_starts_as_asked_and_is_held_where_asked() -> None:
    constant = build_modulation(spec(), 5, 1)
    assert constant.dictionary.tolist() == pytest.approx([0.1] * 8)  # type: ignore[operator, union-attr]
    torch.manual_seed(0)
    drawn = build_modulation(spec(preset="paper", entities=64), 5, 1).dictionary
    assert isinstance(drawn, Tensor)
    assert 0.5 < drawn.std() < 1.5
    held, x = modulation(clamp=True).eval(), maps()
    with torch.no_grad():
        held.dictionary.fill_(-3.0)
    torch.testing.assert_close(held.activation(x), held.semantic(x).flatten(2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "layer", "batch"])
def test_plain_normalisations_stand_in_the_same_place(norm: str) -> None:
    built, x = build_modulation(spec(norm=norm, eps=1e-7), 5, 1), maps()
    axes = {"instance": (2, 3), "layer": (1,), "batch": (0, 2, 3)}[norm]
    centred = x - x.mean(axes, keepdim=True)
    expected = centred / x.var(axes, unbiased=False, keepdim=True).sqrt()
    torch.testing.assert_close(built(x), expected, atol=1e-4, rtol=0)


def test_a_modulated_block_leaves_the_class_token_alone() -> None:
    block = torch.nn.Linear(5, 5)
    built, tokens = ModulatedBlock(block, modulation().eval()), torch.randn(2, 1 + 12, 5)
    found, plain = built(tokens), block(tokens)
    assert torch.equal(found[:, 0], plain[:, 0])
    expected = modulation().eval()(plain[:, 1:].transpose(1, 2)[..., None])[..., 0].transpose(1, 2)
    torch.testing.assert_close(found[:, 1:], expected)
