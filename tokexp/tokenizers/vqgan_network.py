"""VQGAN's convolutional encoder and decoder, under the names of the released weights.

Source: Esser et al. 2021 (VQGAN), appendix, table 7; details of the release (CompVis/taming-transformers): group norm
of 32 groups with eps 1e-6, attention at the coarsest level alone, halving by zeros at the right and the bottom.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention, silu

from tokexp.spec.published_tokenizers import Vqgan


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, width), width, eps=1e-6)


def _conv(inside: int, outside: int, side: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, side, stride, padding=side // 2 if stride == 1 else 0)


class _Block(nn.Module):
    """x + conv(swish(norm(conv(swish(norm(x)))))), with x through a 1 x 1 convolution where the width changes."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inside), _conv(inside, outside)
        self.norm2, self.conv2 = _norm(outside), _conv(outside, outside)
        if inside != outside:
            self.nin_shortcut = _conv(inside, outside, 1)

    def forward(self, values: Tensor) -> Tensor:
        inner = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(values))))))
        out: Tensor = inner + (self.nin_shortcut(values) if hasattr(self, "nin_shortcut") else values)
        return out


class _Attention(nn.Module):
    """x + attention of one head between all places, with 1 x 1 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q, self.k, self.v, self.proj_out = (_conv(width, width, 1) for _ in range(4))

    def forward(self, values: Tensor) -> Tensor:
        normed = self.norm(values)
        query, key, value = (part(normed).flatten(2).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed = scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        out: Tensor = values + self.proj_out(mixed.transpose(1, 2).unflatten(2, values.shape[2:]))
        return out


class _Down(nn.Module):
    """Half the side: zeros at the right and the bottom, then a convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _conv(width, width, stride=2)

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.conv(pad(values, (0, 1, 0, 1)))
        return out


class _Up(nn.Module):
    """Twice the side: every value repeated, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = _conv(width, width)

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.conv(interpolate(values, scale_factor=2.0, mode="nearest"))
        return out


class _Level(nn.Module):
    """Blocks of one resolution, attention after each where there is any, then a change of resolution."""

    def __init__(self, widths: list[int], attends: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(_Block(inside, outside) for inside, outside in pairwise(widths))
        self.attn = nn.ModuleList(_Attention(width) for width in widths[1:] if attends)

    def forward(self, values: Tensor) -> Tensor:
        for place, block in enumerate(self.block):
            values = block(values)
            if len(self.attn):
                values = self.attn[place](values)
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                values = getattr(self, name)(values)
        return values


class _Middle(nn.Module):
    """Block, attention, block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1, self.attn_1, self.block_2 = _Block(width, width), _Attention(width), _Block(width, width)

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(values)))
        return out


class Encoder(nn.Module):
    """Pixels (n, 3, H, W) to features (n, z, H / f, W / f), f being 2 to the number of levels less one."""

    def __init__(self, spec: Vqgan) -> None:
        """Take the sizes."""
        super().__init__()
        widths = [spec.width * factor for factor in spec.multipliers]
        last = len(widths) - 1
        self.conv_in = _conv(3, spec.width)
        self.down = nn.ModuleList()
        before = spec.width
        for number, width in enumerate(widths):
            level = _Level([before, *[width] * spec.blocks], attends=number == last)
            if number < last:
                level.downsample = _Down(width)
            self.down.append(level)
            before = width
        self.mid = _Middle(before)
        self.norm_out, self.conv_out = _norm(before), _conv(before, spec.z_channels)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features."""
        values = self.conv_in(pixels)
        for level in self.down:
            values = level(values)
        out: Tensor = self.conv_out(silu(self.norm_out(self.mid(values))))
        return out


class Decoder(nn.Module):
    """Features (n, z, h, w) to pixels (n, 3, f h, f w). Level 0 is the finest, and the last one that is run."""

    def __init__(self, spec: Vqgan) -> None:
        """Take the sizes."""
        super().__init__()
        widths = [spec.width * factor for factor in spec.multipliers]
        last = len(widths) - 1
        self.conv_in, self.mid = _conv(spec.z_channels, widths[last]), _Middle(widths[last])
        levels, before = [], widths[last]
        for number in range(last, -1, -1):
            level = _Level([before, *[widths[number]] * (spec.blocks + 1)], attends=number == last)
            if number > 0:
                level.upsample = _Up(widths[number])
            levels.append(level)
            before = widths[number]
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out, self.conv_out = _norm(before), _conv(before, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Return pixels, not clipped."""
        values = self.mid(self.conv_in(features))
        for number in range(len(self.up) - 1, -1, -1):
            values = self.up[number](values)
        out: Tensor = self.conv_out(silu(self.norm_out(values)))
        return out
