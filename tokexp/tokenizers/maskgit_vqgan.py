"""The decoder of MaskGIT's VQGAN: codes to pixels by convolutions alone, without attention.

Source: Chang et al. 2022 (MaskGIT), section 3.1, after Esser et al. 2021 (VQGAN); names and details are those of its
port to torch in TiTok's release (bytedance/1d-tokenizer): group norm of 32 groups with eps 1e-6, no bias in the blocks.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate, silu


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(32, width), width, eps=1e-6)


def _conv(inside: int, outside: int, side: int = 3, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, side, padding=side // 2, bias=bias)


class _Block(nn.Module):
    """h + x, h = conv(swish(norm(conv(swish(norm(x)))))); where the width changes, h + shortcut(h)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(inside), _conv(inside, outside, bias=False)
        self.norm2, self.conv2 = _norm(outside), _conv(outside, outside, bias=False)
        # The trap: the release's shortcut reads what the convolutions made and not x, which is lost there.
        self.nin_shortcut = _conv(outside, outside, 1, bias=False) if inside != outside else None

    def forward(self, values: Tensor) -> Tensor:
        inner: Tensor = self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(values))))))
        return inner + (values if self.nin_shortcut is None else self.nin_shortcut(inner))


class _Level(nn.Module):
    """Blocks of one resolution; then, but for the finest, every value repeated and a convolution."""

    def __init__(self, widths: list[int], doubles: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(_Block(inside, outside) for inside, outside in pairwise(widths))
        self.upsample_conv = _conv(widths[-1], widths[-1]) if doubles else None

    def forward(self, values: Tensor) -> Tensor:
        for block in self.block:
            values = block(values)
        if self.upsample_conv is None:
            return values
        out: Tensor = self.upsample_conv(interpolate(values, scale_factor=2.0, mode="nearest"))
        return out


class PixelDecoder(nn.Module):
    """Code vectors (n, d, h, w) to pixels (n, 3, f h, f w) in [0, 1], not clipped; f is 2 to the levels less one."""

    BLOCKS = 2

    def __init__(self, width: int, multipliers: tuple[int, ...], code_dim: int) -> None:
        """Take the channels of the finest level, those of each level over them, and the width of a code."""
        super().__init__()
        widths = [width * factor for factor in multipliers]
        coarsest = widths[-1]
        self.conv_in = _conv(code_dim, coarsest)
        self.mid = nn.ModuleList(_Block(coarsest, coarsest) for _ in range(self.BLOCKS))
        before = [*widths[1:], coarsest]
        self.up = nn.ModuleList(
            _Level([inside, *[own] * self.BLOCKS], doubles=level > 0)
            for level, (inside, own) in enumerate(zip(before, widths, strict=True))
        )
        self.norm_out, self.conv_out = _norm(widths[0]), _conv(widths[0], 3)

    def forward(self, codes: Tensor) -> Tensor:
        """Return the pixels."""
        values = self.conv_in(codes)
        for block in self.mid:
            values = block(values)
        for level in reversed(self.up):
            values = level(values)
        out: Tensor = self.conv_out(silu(self.norm_out(values)))
        return out
