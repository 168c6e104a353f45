"""Tokens-to-token, the stem of T2T-ViT (Yuan et al. 2021, section 3.1), with full attention (its T2T-ViT_t).

Windows that overlap are unfolded into tokens, mixed by a small transformer, folded back into a map, and so on; the last
windows are projected to the model's width. T2T-ViT-14 is this before 14 blocks of width 384 with an MLP ratio of 3.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention, unfold

from tokexp.spec.stems import T2tStem


class TokenTransformer(nn.Module):
    """Tokens (B, N, before) to (B, N, width): one head whose values are the residual, as widths differ, and an MLP."""

    def __init__(self, before: int, width: int, mlp_ratio: float) -> None:
        """Take the widths on both sides and the MLP's over `width`."""
        super().__init__()
        hidden = round(width * mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(before), nn.LayerNorm(width)
        self.qkv = nn.Linear(before, 3 * width, bias=False)
        self.out = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        # The scale is that of the unfolded tokens, which are wider than the head.
        self.scale = before**-0.5

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mixed tokens."""
        query, key, value = self.qkv(self.norm1(tokens))[:, None].chunk(3, -1)
        mixed = scaled_dot_product_attention(query, key, value, scale=self.scale)[:, 0]
        tokens = value[:, 0] + self.out(mixed)
        found: Tensor = tokens + self.narrow(gelu(self.widen(self.norm2(tokens))))
        return found


class TokensToToken(nn.Module):
    """Values (B, C, H, W) to (B, width, rows, columns)."""

    def __init__(self, spec: T2tStem, in_channels: int, width: int) -> None:
        """Take the windows and the small transformers, the input's channels and the model's width."""
        super().__init__()
        self.windows = tuple(zip(spec.kernels, spec.strides, strict=True))
        unfolded = [kernel**2 * (spec.width if number else in_channels) for number, kernel in enumerate(spec.kernels)]
        self.mixing = nn.ModuleList(TokenTransformer(before, spec.width, spec.mlp_ratio) for before in unfolded[:-1])
        self.project = nn.Linear(unfolded[-1], width)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, values: Tensor) -> Tensor:
        """Return the patches."""
        for number, (kernel, stride) in enumerate(self.windows):
            grid = torch.Size((values.shape[2] // stride, values.shape[3] // stride))
            # Padded so that a side is divided by the stride: 2 for 7 at 4, 1 for 3 at 2.
            tokens = unfold(values, kernel, padding=(kernel - stride + 1) // 2, stride=stride).mT
            mix = self.mixing[number] if number < len(self.mixing) else self.project
            values = mix(tokens).mT.unflatten(2, grid)
        return values


def build(spec: T2tStem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, rows, columns), each divided by the product of strides."""
    return TokensToToken(spec, in_channels, width)
