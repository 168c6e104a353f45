"""VQ-KD, the tokenizer of BEiT v2: a vision transformer's patch tokens, projected to 32 numbers and compared by angle.

Source: Peng et al. 2022 (BEiT v2), section 3.1; names and details of the release (microsoft/unilm, beit2): the class
token has a place but no token, queries and values have a bias and keys have none, the last norm is on patch tokens
alone. Pixels are brought from [0, 1] to [-1, 1], always (the release decides by the largest pixel of a batch). Encoding
changes no state, where the release counts the codes in use in evaluation too. The decoder makes CLIP's features, not
pixels, and is not loaded. For other inputs than 224 x 224 pixels the table of positions is resampled as timm does
(bicubic, antialiased; the class token's place as it is), when it is used: what is stored stays as published.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, scaled_dot_product_attention

from tokexp.spec.published_tokenizers import VqKd
from tokexp.tokenizers.base import Codebook
from tokexp.tokenizers.published import PublishedTokenizer
from tokexp.torchvision_ops import ensure_torchvision

_EPS = 1e-6


class _Attention(nn.Module):
    """Self-attention (n, tokens, width); the bias of the keys is zero."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        parts = linear(values, self.qkv.weight, bias).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(parts[0], parts[1], parts[2])
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class _Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.fc2(gelu(self.fc1(values)))
        return out


class _Block(nn.Module):
    """Attention and MLP, each behind a norm and beside the values as they are."""

    def __init__(self, spec: VqKd) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(spec.width, eps=_EPS), nn.LayerNorm(spec.width, eps=_EPS)
        self.attn, self.mlp = _Attention(spec.width, spec.heads), _Mlp(spec.width, spec.mlp_width)

    def forward(self, values: Tensor) -> Tensor:
        values = values + self.attn(self.norm1(values))
        out: Tensor = values + self.mlp(self.norm2(values))
        return out


class _Patches(nn.Module):
    """Pixels (n, 3, H, W) to patches (n, tokens, width)."""

    def __init__(self, spec: VqKd) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, spec.width, spec.patch_size, spec.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        out: Tensor = self.proj(pixels).flatten(2).transpose(1, 2)
        return out


class Encoder(nn.Module):
    """Pixels in [-1, 1] to normed patch tokens (n, tokens, width)."""

    def __init__(self, spec: VqKd, grid: tuple[int, int]) -> None:
        """Take the sizes, and (rows, columns) of the patches that will be read."""
        super().__init__()
        self.stored, self.grid = (spec.positions, spec.positions), grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, spec.positions**2 + 1, spec.width))
        self.patch_embed = _Patches(spec)
        self.blocks = nn.ModuleList(_Block(spec) for _ in range(spec.depth))
        self.fc_norm = nn.LayerNorm(spec.width, eps=_EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the tokens of the patches, without the class token."""
        patches = self.patch_embed(pixels)
        values = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.positions()
        for block in self.blocks:
            values = block(values)
        out: Tensor = self.fc_norm(values[:, 1:])
        return out

    def positions(self) -> Tensor:
        """Return the table (1, 1 + rows columns, width) for the grid that is read."""
        if self.grid == self.stored:
            return self.pos_embed
        ensure_torchvision()
        from timm.layers import resample_abs_pos_embed

        table: Tensor = resample_abs_pos_embed(self.pos_embed, list(self.grid), list(self.stored))
        return table


class _Quantizer(nn.Module):
    """The codes (K, d), of length 1 in the release."""

    def __init__(self, spec: VqKd) -> None:
        super().__init__()
        self.embedding = nn.Module()
        self.embedding.weight = nn.Parameter(torch.randn(spec.codebook_size, spec.code_dim), requires_grad=False)

    def codes(self) -> Tensor:
        """Return them."""
        codes = self.embedding.weight
        assert isinstance(codes, Tensor)
        return codes


class VqKdTokenizer(PublishedTokenizer):
    """What is needed for indices: encoder, projection, codes."""

    DROP = (
        "decoder.", "decode_task_layer.", "loss", "teacher", "scaling", "quantize.cluster_size",
        "quantize.embedding.cluster_size", "quantize.embedding.embed_avg", "quantize.embedding.initted",
    )  # fmt: skip
    METRIC = "cosine"
    DECODES = False

    def __init__(self, spec: VqKd, image_shape: tuple[int, int, int]) -> None:
        """Make the network with random weights, under the published names."""
        super().__init__(spec, image_shape)
        self.encoder, self.quantize = Encoder(spec, self.info.grid), _Quantizer(spec)
        self.encode_task_layer = nn.Sequential(
            nn.Linear(spec.width, spec.width), nn.Tanh(), nn.Linear(spec.width, spec.code_dim)
        )

    def outside_data(self) -> str:
        """Return what network and teacher were trained on."""
        assert isinstance(self.spec, VqKd)
        return "ImageNet-1k, CLIP" if self.spec.teacher == "clip" else "ImageNet-1k"

    def codebook(self) -> Tensor:
        """Return the codes (K, d)."""
        return self.quantize.codes().detach().float()

    def indices(self, pixels: Tensor) -> Tensor:
        """Return indices (n, rows, columns): the code of the smallest angle."""
        projected = self.encode_task_layer(self.encoder(2 * pixels - 1))
        return Codebook(self.codebook(), "cosine").nearest(projected.transpose(1, 2).unflatten(2, self.info.grid))


def build(spec: VqKd, image_shape: tuple[int, int, int]) -> VqKdTokenizer:
    """Return the network with random weights; `fit` loads the checkpoint."""
    return VqKdTokenizer(spec, image_shape)
