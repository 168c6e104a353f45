"""The stems `overlap` and `t2t` against references written from their formulas."""

import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import fold, softmax

from tokexp.models.stems import overlap, t2t
from tokexp.spec.stems import OverlapStem, T2tStem


def test_overlap_sees_half_of_each_neighbour_and_no_more() -> None:
    stem = overlap.build(OverlapStem(kind="overlap", patch_size=4), 3, 8)
    values = torch.randn(1, 3, 16, 16, requires_grad=True)
    patches = stem(values)
    assert patches.shape == (1, 8, 4, 4)
    assert sum(weight.numel() for weight in stem.parameters()) == 8 * 3 * 7 * 7 + 8
    patches[0, :, 1, 1].sum().backward()
    seen = values.grad[0].abs().sum(0).nonzero()  # type: ignore[index]
    assert (seen.min().item(), seen.max().item()) == (1, 7)


def test_t2t_mixes_unfolded_windows_with_full_attention() -> None:
    torch.manual_seed(0)
    stem = t2t.build(T2tStem(kind="t2t", kernels=(3, 3), strides=(2, 2), width=6), 3, 8)
    values = torch.randn(2, 3, 8, 8)
    tokens = torch.nn.functional.unfold(values, 3, padding=1, stride=2).mT
    layer = stem.mixing[0]
    query, key, value = layer.qkv(layer.norm1(tokens)).split(6, -1)
    mixed = value + layer.out(softmax(query @ key.mT / tokens.shape[-1] ** 0.5, -1) @ value)
    mixed = mixed + layer.narrow(torch.nn.functional.gelu(layer.widen(layer.norm2(mixed))))
    folded = fold(mixed.mT, (4, 4), 1)
    expected = stem.project(torch.nn.functional.unfold(folded, 3, padding=1, stride=2).mT).mT.reshape(2, 8, 2, 2)
    torch.testing.assert_close(stem(values), expected)


def test_an_even_window_at_every_place_is_refused_and_odd_ones_keep_the_grid() -> None:
    with pytest.raises(ValidationError, match="a stride of 1 needs an odd kernel"):
        T2tStem(kind="t2t", kernels=(3, 2), strides=(2, 1))
    spec = T2tStem(kind="t2t", kernels=(3, 4, 3), strides=(2, 2, 1), width=6)
    assert t2t.build(spec, 3, 8)(torch.randn(2, 3, 8, 12)).shape == (2, 8, *spec.patch_grid((8, 12)))
