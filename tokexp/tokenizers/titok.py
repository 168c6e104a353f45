"""TiTok: an image as a short row of tokens that stand for no place; a transformer fills them from patches and queries.

Source: Yu et al. 2024 (An Image is Worth 32 Tokens), section 3.2; names and details of the released weights
(bytedance/1d-tokenizer). Pixels are in [0, 1]. Codes are compared by angle. The released networks read the row of
features in another order than it was written (`is_legacy` there), which their weights have learned; so does this one.
Of the file, encoder, queries and codes are loaded: indices cannot become images here. The row is laid out as a grid,
near a square, in which neighbours mean nothing: `stem: {kind: patchify, patch_size: 1}` reads it as it is.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from tokexp.spec.published_tokenizers import Titok
from tokexp.tokenizers.base import Codebook
from tokexp.tokenizers.published import PublishedTokenizer


class _Attention(nn.Module):
    """Self-attention (n, tokens, width), under the names of torch's own."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        parts = linear(values, self.in_proj_weight, self.in_proj_bias).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return out


class _Block(nn.Module):
    """Attention and MLP, each behind a norm and beside the values as they are."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        layers = {"c_fc": nn.Linear(width, 4 * width), "gelu": nn.GELU(), "c_proj": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, values: Tensor) -> Tensor:
        values = values + self.attn(self.ln_1(values))
        out: Tensor = values + self.mlp(self.ln_2(values))
        return out


class Encoder(nn.Module):
    """Pixels (n, 3, H, W) and queries (tokens, width) to features (n, d, tokens)."""

    def __init__(self, spec: Titok) -> None:
        """Take the sizes."""
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(1, spec.width))
        self.positional_embedding = nn.Parameter(torch.zeros(spec.positions**2 + 1, spec.width))
        self.latent_token_positional_embedding = nn.Parameter(torch.zeros(spec.tokens, spec.width))
        self.patch_embed = nn.Conv2d(3, spec.width, spec.patch_size, spec.patch_size)
        self.ln_pre, self.ln_post = nn.LayerNorm(spec.width), nn.LayerNorm(spec.width)
        self.transformer = nn.ModuleList(_Block(spec.width, spec.heads) for _ in range(spec.depth))
        self.conv_out = nn.Conv2d(spec.width, spec.code_dim, 1)

    def forward(self, pixels: Tensor, queries: Tensor) -> Tensor:
        """Return the features of the row."""
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        count, most, width = patches.shape
        image = torch.cat([self.class_embedding.expand(count, -1, -1), patches], 1) + self.positional_embedding
        row = (queries + self.latent_token_positional_embedding).expand(count, -1, -1)
        values = self.ln_pre(torch.cat([image, row], 1))
        for block in self.transformer:
            values = block(values)
        found = self.ln_post(values[:, most + 1 :])
        # The trap: (tokens, width) numbers are read as (width, tokens), not transposed; the weights expect that.
        out: Tensor = self.conv_out(found.reshape(count, width, -1, 1))
        return out.flatten(2)


class _Quantizer(nn.Module):
    """The codes (K, d)."""

    def __init__(self, spec: Titok) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.codebook_size, spec.code_dim)


class TitokTokenizer(PublishedTokenizer):
    """Encoder, queries and codes."""

    DROP = ("decoder.", "pixel_quantize.", "pixel_decoder.")
    METRIC = "cosine"
    DECODES = False

    def __init__(self, spec: Titok, image_shape: tuple[int, int, int]) -> None:
        """Make the network with random weights, under the published names."""
        super().__init__(spec, image_shape)
        self.encoder, self.quantize = Encoder(spec), _Quantizer(spec)
        self.latent_tokens = nn.Parameter(torch.randn(spec.tokens, spec.width) * spec.width**-0.5)

    def codebook(self) -> Tensor:
        """Return the codes (K, d) as stored."""
        return self.quantize.embedding.weight.detach().float()

    def indices(self, pixels: Tensor) -> Tensor:
        """Return indices (n, rows, columns) of the row: the code of the smallest angle."""
        features = self.encoder(pixels, self.latent_tokens).unflatten(2, self.info.grid)
        return Codebook(self.codebook(), "cosine").nearest(features)


def build(spec: Titok, image_shape: tuple[int, int, int]) -> TitokTokenizer:
    """Return the network with random weights; `fit` loads the checkpoint."""
    return TitokTokenizer(spec, image_shape)
