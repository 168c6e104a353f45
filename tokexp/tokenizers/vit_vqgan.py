"""ViT-VQGAN: a transformer encodes patches of 8 x 8 pixels, codes are compared by angle, a transformer decodes.

Sources: Yu et al. 2021 (ViT-VQGAN), sections 3.1 and 3.2; names, Tanh and the lack of a bias before attention
follow the released weights (thuanz123/enhancing-transformers). Pixels are in [0, 1] without normalisation. Park et al.
2023 (SeiT) read 256 x 256 pixels with both sides forced to that (`data.resize: squash`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize, scaled_dot_product_attention

from tokexp.spec.published_tokenizers import VitVqgan
from tokexp.tokenizers.base import Codebook
from tokexp.tokenizers.published import PublishedTokenizer

_EPS = 1e-5


class _PreNorm(nn.Module):
    """fn(norm(x)), under the names of the release."""

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width, eps=_EPS), fn

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.fn(self.norm(values))
        return out


class _Attention(nn.Module):
    """Self-attention (n, tokens, width) without a bias before and with one behind."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        parts = self.to_qkv(values).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(parts[0], parts[1], parts[2])
        out: Tensor = self.to_out(mixed.transpose(1, 2).flatten(2))
        return out


class _FeedForward(nn.Module):
    """Linear, Tanh (not GELU), Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, width))

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.net(values)
        return out


class _Transformer(nn.Module):
    """Pre-norm blocks and a last norm."""

    def __init__(self, spec: VitVqgan) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _PreNorm(spec.width, _Attention(spec.width, spec.heads)),
                    _PreNorm(spec.width, _FeedForward(spec.width, spec.mlp_width)),
                ]
            )
            for _ in range(spec.depth)
        )
        self.norm = nn.LayerNorm(spec.width, eps=_EPS)

    def forward(self, values: Tensor) -> Tensor:
        for layer in self.layers:
            assert isinstance(layer, nn.ModuleList)
            for part in layer:
                values = values + part(values)
        out: Tensor = self.norm(values)
        return out


def _table(spec: VitVqgan) -> nn.Parameter:
    """Positions (1, tokens, width); the published ones are loaded, as their formula has its axes swapped."""
    return nn.Parameter(torch.zeros(1, spec.positions**2, spec.width), requires_grad=False)


class Encoder(nn.Module):
    """Pixels (n, 3, H, W) to features (n, tokens, width)."""

    def __init__(self, spec: VitVqgan) -> None:
        """Take the sizes."""
        super().__init__()
        self.en_pos_embedding = _table(spec)
        self.to_patch_embedding = nn.Sequential(nn.Conv2d(3, spec.width, spec.patch_size, spec.patch_size))
        self.transformer = _Transformer(spec)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features in reading order."""
        patches = self.to_patch_embedding(pixels).flatten(2).transpose(1, 2)
        out: Tensor = self.transformer(patches + self.en_pos_embedding)
        return out


class Decoder(nn.Module):
    """Features (n, tokens, width) to pixels (n, 3, H, W)."""

    def __init__(self, spec: VitVqgan) -> None:
        """Take the sizes."""
        super().__init__()
        self.side = spec.positions
        self.de_pos_embedding = _table(spec)
        self.transformer = _Transformer(spec)
        # The release rearranges first, so its convolution is number 1.
        upward = nn.ConvTranspose2d(spec.width, 3, spec.patch_size, spec.patch_size)
        self.to_pixel = nn.Sequential(nn.Identity(), upward)

    def forward(self, features: Tensor) -> Tensor:
        """Return pixels, not clipped."""
        values = self.transformer(features + self.de_pos_embedding)
        out: Tensor = self.to_pixel(values.transpose(1, 2).unflatten(2, (self.side, self.side)))
        return out


class _Quantizer(nn.Module):
    """The stored codes (K, d), drawn from N(0, 1) and normalised only when they are used."""

    def __init__(self, spec: VitVqgan) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.codebook_size, spec.code_dim)


class VitVqganTokenizer(PublishedTokenizer):
    """Codes are given as stored (SeiT feeds them so); they are compared, and decoded, normalised."""

    DROP = ("loss.",)
    METRIC = "cosine"

    def __init__(self, spec: VitVqgan, image_shape: tuple[int, int, int]) -> None:
        """Make the network with random weights, under the published names."""
        super().__init__(spec, image_shape)
        self.encoder, self.decoder = Encoder(spec), Decoder(spec)
        self.quantizer = _Quantizer(spec)
        self.pre_quant = nn.Linear(spec.width, spec.code_dim)
        self.post_quant = nn.Linear(spec.code_dim, spec.width)

    def codebook(self) -> Tensor:
        """Return the codes (K, d) as stored."""
        return self.quantizer.embedding.weight.detach().float()

    def indices(self, pixels: Tensor) -> Tensor:
        """Return indices (n, rows, columns): the code of the smallest angle."""
        features = self.pre_quant(self.encoder(pixels)).transpose(1, 2).unflatten(2, self.info.grid)
        return Codebook(self.codebook(), "cosine").nearest(features)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return pixels of normalised codes, not clipped."""
        codes = normalize(embedding(indices.flatten(1), self.quantizer.embedding.weight), dim=-1)
        out: Tensor = self.decoder(self.post_quant(codes))
        return out


def build(spec: VitVqgan, image_shape: tuple[int, int, int]) -> VitVqganTokenizer:
    """Return the network with random weights; `fit` loads the checkpoint."""
    return VitVqganTokenizer(spec, image_shape)
