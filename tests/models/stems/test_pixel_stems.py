"""The stems of pixels against constructions that are written here from their definitions."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from tests.objectives.building import stir
from tokexp.models.modulation import ModulatedBlock, Modulation
from tokexp.models.stems.moto import PixelModulation
from tokexp.models.vit import VisionTransformer
from tokexp.registry import implementation
from tokexp.spec.models import VitSpec
from tokexp.spec.stems import ConvStem, FrozenStem, InterStem, IntraStem, LocalStem, MotoStem

SPECS = {
    "frozen": FrozenStem,
    "intra": IntraStem,
    "local": LocalStem,
    "inter": InterStem,
    "conv": ConvStem,
    "moto": MotoStem,
}


def stem(kind: str, width: int = 12, channels: int = 3, **fields: Any) -> Any:
    torch.manual_seed(0)
    return implementation("stems", kind)(SPECS[kind].model_validate({"kind": kind, **fields}), channels, width)


def picture(rows: int = 16, columns: int = 24) -> Tensor:
    return torch.randn(2, 3, rows, columns, generator=torch.Generator().manual_seed(3))


def windows_by_hand(built: Any, values: Tensor, step: int) -> Tensor:
    """Return the projected windows (B, width, rows, columns): for each, every kernel around the same middle."""
    rows, columns = values.shape[2] // step, values.shape[3] // step
    largest = max(scale.kernel_size[0] for scale in built.scales)
    padded = nn.functional.pad(values, (largest,) * 4)
    parts = []
    for scale in built.scales:
        size = scale.kernel_size[0]
        found = torch.empty(len(values), scale.out_channels, rows, columns)
        for row in range(rows):
            for column in range(columns):
                top, left = (largest + place * step - (size - step) // 2 for place in (row, column))
                window = padded[:, :, top : top + size, left : left + size]
                found[:, :, row, column] = torch.einsum("bchw,dchw->bd", window, scale.weight) + scale.bias
        parts.append(found)
    projected: Tensor = built.project(torch.cat(parts, 1))
    return projected


@pytest.mark.parametrize("kernels", [(), (2, 4, 8, 16), (3, 7)], ids=["default", "beyond the patch", "odd"])
def test_every_kernel_of_intra_stands_in_the_middle_of_its_patch(kernels: tuple[int, ...]) -> None:
    patch = 8 if 3 not in kernels else 9
    values = picture() if patch == 8 else picture(18, 27)
    built = stem("intra", patch_size=patch, kernels=kernels)
    torch.testing.assert_close(built(values), windows_by_hand(built, values, patch), atol=1e-5, rtol=1e-4)


def test_local_averages_four_windows_of_half_the_stride() -> None:
    built, values = stem("local", patch_size=8), picture()
    windows = windows_by_hand(built, values, 4)
    expected = windows.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    torch.testing.assert_close(built(values), expected, atol=1e-5, rtol=1e-4)


def test_inter_runs_its_blocks_over_all_windows_before_it_averages() -> None:
    built, values = stem("inter", width=64, patch_size=8, blocks=2), picture()
    windows = windows_by_hand(built, values, 4)
    mixed = built.mixing(windows.flatten(2).transpose(1, 2)).transpose(1, 2).view_as(windows)
    expected = mixed.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    torch.testing.assert_close(built(values), expected, atol=1e-4, rtol=1e-3)
    assert len(built.mixing) == 2


def test_the_heads_of_inter_divide_any_width() -> None:
    for width, heads in ((64, 1), (384, 6), (224, 2), (36, 1)):
        assert stem("inter", width=width, patch_size=4).mixing[0].attn.num_heads == heads


def test_two_thirds_of_the_width_are_256_channels_of_each_kernel_at_deit_s() -> None:
    built = stem("intra", width=384)
    assert [scale.weight.shape[0::2] for scale in built.scales] == [(256, 4), (256, 8), (256, 16)]


def test_the_frozen_projection_is_a_convolution_with_nothing_to_train() -> None:
    built, values = stem("frozen", patch_size=4), picture()
    columns = unfold(values, 4, stride=4)
    expected = (built.weight.flatten(1) @ columns).view(2, 12, 4, 6)
    torch.testing.assert_close(built(values), expected, atol=1e-5, rtol=1e-4)
    assert list(built.parameters()) == []
    assert set(built.state_dict()) == {"weight", "bias"}


def test_the_frozen_projection_starts_within_xaviers_bound() -> None:
    weight, bound = stem("frozen", width=64, patch_size=8).weight, (6 / (3 * 64 + 64)) ** 0.5
    assert 0.98 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_the_convolutional_stem_doubles_its_channels_up_to_the_width() -> None:
    built = stem("conv", width=384)
    shapes = [(part.in_channels, part.out_channels, part.stride[0]) for part in built if isinstance(part, nn.Conv2d)]
    assert shapes == [(3, 48, 2), (48, 96, 2), (96, 192, 2), (192, 384, 2), (384, 384, 1)]
    kinds = [type(part) for part in built]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 4 + [nn.Conv2d]


def test_widths_of_the_convolutional_stem_can_be_given() -> None:
    built = stem("conv", patch_size=4, widths=(5, 6), norm="none")
    assert [part.out_channels for part in built if isinstance(part, nn.Conv2d)] == [5, 6, 12]
    assert not any(isinstance(part, nn.BatchNorm2d) for part in built)


def test_moto_on_pixels_adds_its_convolutions_to_the_picture_and_leaves_the_stem_as_it_was() -> None:
    values = picture()
    built = stem("moto", inner={"kind": "patchify", "patch_size": 8}).eval()
    around, inner = built
    stir(around)
    assert isinstance(around, PixelModulation)
    expected = values + around.narrow(around.modulation(around.widen(values)))
    torch.testing.assert_close(built(values), inner(expected))
    assert around(values).shape == values.shape


def test_moto_on_patches_comes_after_the_stem() -> None:
    built = stem("moto", inner={"kind": "conv", "patch_size": 4}, placement="token").eval()
    inner, after = built
    assert isinstance(after, Modulation)
    torch.testing.assert_close(built(picture()), after(inner(picture())))


@pytest.mark.parametrize(("channels", "side"), [(384, 14), (768, 14), (64, 56), (96, 56), (384, 24), (16, 56)])
def test_moto_takes_the_maps_of_every_family(channels: int, side: int) -> None:
    spec = MotoStem.model_validate({"kind": "moto"})
    built = Modulation(spec, channels, 1)
    assert built(torch.randn(1, channels, side, side)).shape == (1, channels, side, side)


def test_named_blocks_are_modulated_and_others_are_not() -> None:
    moto = {"kind": "moto", "inner": {"kind": "patchify", "patch_size": 4}, "entities": 2, "blocks": [1, 3]}
    spec = VitSpec.model_validate({"kind": "vit", "width": 16, "depth": 4, "heads": 2, "stem": moto})
    torch.manual_seed(0)
    model = VisionTransformer(spec, 3, (8, 8)).eval()
    assert [isinstance(block, ModulatedBlock) for block in model.blocks] == [True, False, True, False]
    assert len(model.layer_groups()) == 6
    assert model(torch.randn(2, 3, 8, 8)).shape == (2, 16)


def test_gradients_reach_every_part_of_moto() -> None:
    built = stem("moto", inner={"kind": "patchify", "patch_size": 4})
    built(picture()).square().sum().backward()
    still = [name for name, parameter in built.named_parameters() if not parameter.grad.abs().sum()]
    assert still == []
