"""TiTok: an image as a short row of tokens that stand for no place; a transformer fills them from patches and queries.

Source: Yu et al. 2024 (An Image is Worth 32 Tokens), sections 3.2 and 3.3; names and details of the released code
(bytedance/1d-tokenizer), to which l32, b64 and s128 belong; its weights themselves were not at hand. Pixels are in
[0, 1]. Codes are compared, and decoded, with length 1. The released networks read the row of features in another order
than it was written (`is_legacy` there), which their weights have learned; so does this one. Decoding has two steps: a
transformer makes, of mask tokens and the row, logits over the 1024 codes of MaskGIT's VQGAN at every place; the codes'
mean by their softmax goes to that VQGAN's decoder, as fine-tuned. The row is laid out as a grid, near a square, in
which neighbours mean nothing: `stem: {kind: patchify, patch_size: 1}` reads it as it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, normalize, scaled_dot_product_attention

from tokexp.errors import DataError
from tokexp.spec.published_tokenizers import Titok
from tokexp.tokenizers.base import Codebook
from tokexp.tokenizers.maskgit_vqgan import PixelDecoder
from tokexp.tokenizers.published import PublishedTokenizer

_DECODERS = ("decoder.", "pixel_quantize.", "pixel_decoder.")


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


class _Transformer(nn.Module):
    """What encoder and decoder share: a class token, places of the image and of the row, blocks between two norms."""

    def __init__(self, spec: Titok) -> None:
        super().__init__()
        self.places = spec.positions**2
        self.class_embedding = nn.Parameter(torch.zeros(1, spec.width))
        self.positional_embedding = nn.Parameter(torch.zeros(self.places + 1, spec.width))
        self.latent_token_positional_embedding = nn.Parameter(torch.zeros(spec.tokens, spec.width))
        self.ln_pre, self.ln_post = nn.LayerNorm(spec.width), nn.LayerNorm(spec.width)
        self.transformer = nn.ModuleList(_Block(spec.width, spec.heads) for _ in range(spec.depth))

    def mixed(self, image: Tensor, row: Tensor) -> Tensor:
        """Return what the blocks make of an image (n, places, width) and a row (n, tokens, width), class first."""
        image = torch.cat([self.class_embedding.expand(len(image), -1, -1), image], 1) + self.positional_embedding
        values: Tensor = self.ln_pre(torch.cat([image, row + self.latent_token_positional_embedding], 1))
        for block in self.transformer:
            values = block(values)
        return values


class Encoder(_Transformer):
    """Pixels (n, 3, H, W) and queries (tokens, width) to features (n, d, tokens)."""

    def __init__(self, spec: Titok) -> None:
        """Take the sizes."""
        super().__init__(spec)
        self.patch_embed = nn.Conv2d(3, spec.width, spec.patch_size, spec.patch_size)
        self.conv_out = nn.Conv2d(spec.width, spec.code_dim, 1)

    def forward(self, pixels: Tensor, queries: Tensor) -> Tensor:
        """Return the features of the row."""
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        values = self.mixed(patches, queries.expand(len(patches), -1, -1))
        found = self.ln_post(values[:, self.places + 1 :])
        # The trap: (tokens, width) numbers are read as (width, tokens), not transposed; the weights expect that.
        out: Tensor = self.conv_out(found.reshape(len(found), found.shape[2], -1, 1))
        return out.flatten(2)


class Decoder(_Transformer):
    """A row of codes (n, tokens, d) to logits (n, K', side, side) of the pixel decoder's codes."""

    def __init__(self, spec: Titok) -> None:
        """Take the sizes."""
        super().__init__(spec)
        self.side = spec.positions
        self.decoder_embed = nn.Linear(spec.code_dim, spec.width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.ffn = nn.Sequential(
            nn.Conv2d(spec.width, 2 * spec.width, 1), nn.Tanh(), nn.Conv2d(2 * spec.width, spec.pixel_codes, 1)
        )

    def forward(self, codes: Tensor) -> Tensor:
        """Return the logits."""
        values = self.mixed(self.mask_token.expand(len(codes), self.places, -1), self.decoder_embed(codes))
        image = self.ln_post(values[:, 1 : self.places + 1])
        out: Tensor = self.ffn(image.transpose(1, 2).unflatten(2, (self.side, self.side)))
        return out


class _Quantizer(nn.Module):
    """Codes (K, d)."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)


class TitokTokenizer(PublishedTokenizer):
    """Encoder, queries and codes; unless the spec leaves them out, both decoders and the codes between them."""

    METRIC = "cosine"

    def __init__(self, spec: Titok, image_shape: tuple[int, int, int]) -> None:
        """Make the network with random weights, under the published names."""
        super().__init__(spec, image_shape)
        self.info = replace(self.info, decodes=spec.decoder)
        self.encoder, self.quantize = Encoder(spec), _Quantizer(spec.codebook_size, spec.code_dim)
        self.latent_tokens = nn.Parameter(torch.randn(spec.tokens, spec.width) * spec.width**-0.5)
        if spec.decoder:
            self.decoder = Decoder(spec)
            self.pixel_quantize = _Quantizer(spec.pixel_codes, spec.pixel_code_dim)
            self.pixel_decoder = PixelDecoder(spec.pixel_width, spec.pixel_multipliers, spec.pixel_code_dim)

    def published(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a file's tensors, those of the decoders if they are read. Raises DataError if it has no such."""
        if not self.info.decodes:
            return {name: value for name, value in tensors.items() if not name.startswith(_DECODERS)}
        for prefix in _DECODERS:
            if not any(name.startswith(prefix) for name in tensors):
                raise DataError(
                    f"{self.spec.checkpoint!r} holds no {prefix}*: its tokens cannot become images; to encode alone, "
                    "set tokenizer.decoder to false"
                )
        return tensors

    def codebook(self) -> Tensor:
        """Return the codes (K, d) as stored."""
        return self.quantize.embedding.weight.detach().float()

    def indices(self, pixels: Tensor) -> Tensor:
        """Return indices (n, rows, columns) of the row: the code of the smallest angle."""
        features = self.encoder(pixels, self.latent_tokens).unflatten(2, self.info.grid)
        return Codebook(self.codebook(), "cosine").nearest(features)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return pixels of a row's codes, not clipped. Raises InputError without the decoders."""
        if not self.info.decodes:
            return super().pixels(indices)
        codes = normalize(embedding(indices.flatten(1), self.quantize.embedding.weight), dim=-1)
        shares = self.decoder(codes).softmax(1)
        mean = torch.einsum("nkhw,kd->ndhw", shares, self.pixel_quantize.embedding.weight)
        out: Tensor = self.pixel_decoder(mean)
        return out


def build(spec: Titok, image_shape: tuple[int, int, int]) -> TitokTokenizer:
    """Return the network with random weights; `fit` loads the checkpoint."""
    return TitokTokenizer(spec, image_shape)
