"""DALL-E's discrete VAE: an encoder of 8192 logits per 8 x 8 pixels, and a decoder that mixes codes.

Source: Ramesh et al. 2021 (DALL-E), appendix A; names follow the released modules (openai/DALL-E), which are pickled:
they are read as tensors alone. Pixels are brought to [0.1, 0.9]; a token is the largest logit; codes are the columns of
the decoder's first convolution. All is computed in float32, where the release computes in half precision on a GPU.
BEiT and MaPeT take 14 x 14 tokens of 112 x 112 pixels (`input_size: 112`).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, embedding

from tokexp.spec.published_tokenizers import DalleDvae
from tokexp.tokenizers.checkpoints import load_published, read_tensors
from tokexp.tokenizers.published import PublishedTokenizer

_LOW = 0.1
"""What black becomes; white becomes 1 less this."""

_BLOCKS = 2
_GAIN = 1 / 64
"""Factor of a block's branch: 1 over the squared number of blocks, 4 groups of 2."""

_ENCODES, _DECODES = (3, 3, 3, 1), (1, 3, 3, 3)
"""Sides of a block's kernels."""


class _Conv(nn.Module):
    """A convolution that keeps the sides, with the release's names for weight and bias."""

    def __init__(self, inside: int, outside: int, side: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(outside, inside, side, side) * (inside * side**2) ** -0.5)
        self.b = nn.Parameter(torch.zeros(outside))

    def forward(self, values: Tensor) -> Tensor:
        return conv2d(values, self.w, self.b, padding=self.w.shape[-1] // 2)


def _named(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


class _Block(nn.Module):
    """id_path(x) + gain * res_path(x); the branch is a quarter as wide as its end."""

    def __init__(self, inside: int, outside: int, sides: tuple[int, ...]) -> None:
        super().__init__()
        hidden = max(1, outside // 4)
        widths = (inside, hidden, hidden, hidden, outside)
        layers: dict[str, nn.Module] = {}
        for place, side in enumerate(sides):
            layers[f"relu_{place + 1}"] = nn.ReLU()
            layers[f"conv_{place + 1}"] = _Conv(widths[place], widths[place + 1], side)
        self.id_path: nn.Module = nn.Identity() if inside == outside else _Conv(inside, outside, 1)
        self.res_path = _named(**layers)

    def forward(self, values: Tensor) -> Tensor:
        out: Tensor = self.id_path(values) + _GAIN * self.res_path(values)
        return out


def _group(inside: int, outside: int, sides: tuple[int, ...], **end: nn.Module) -> nn.Sequential:
    blocks = {f"block_{n + 1}": _Block(outside if n else inside, outside, sides) for n in range(_BLOCKS)}
    return _named(**blocks, **end)


class Encoder(nn.Module):
    """Pixels (n, 3, H, W) in [0.1, 0.9] to logits (n, K, H / 8, W / 8)."""

    def __init__(self, spec: DalleDvae) -> None:
        """Take the sizes."""
        super().__init__()
        wide = spec.width
        self.blocks = _named(
            input=_Conv(3, wide, 7),
            group_1=_group(wide, wide, _ENCODES, pool=nn.MaxPool2d(2)),
            group_2=_group(wide, 2 * wide, _ENCODES, pool=nn.MaxPool2d(2)),
            group_3=_group(2 * wide, 4 * wide, _ENCODES, pool=nn.MaxPool2d(2)),
            group_4=_group(4 * wide, 8 * wide, _ENCODES),
            output=_named(relu=nn.ReLU(), conv=_Conv(8 * wide, spec.codebook_size, 1)),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits."""
        out: Tensor = self.blocks(pixels)
        return out


class Decoder(nn.Module):
    """Mixtures of codes (n, K, h, w) to (n, 6, 8 h, 8 w): logits of the pixels and, unused here, their scales."""

    def __init__(self, spec: DalleDvae) -> None:
        """Take the sizes."""
        super().__init__()
        wide = spec.width
        self.blocks = _named(
            input=_Conv(spec.codebook_size, spec.code_dim, 1),
            group_1=_group(spec.code_dim, 8 * wide, _DECODES, upsample=nn.Upsample(scale_factor=2.0)),
            group_2=_group(8 * wide, 4 * wide, _DECODES, upsample=nn.Upsample(scale_factor=2.0)),
            group_3=_group(4 * wide, 2 * wide, _DECODES, upsample=nn.Upsample(scale_factor=2.0)),
            group_4=_group(2 * wide, wide, _DECODES),
            output=_named(relu=nn.ReLU(), conv=_Conv(wide, 6, 1)),
        )

    def codes(self) -> Tensor:
        """Return the columns of the first convolution, (K, d)."""
        first = self.blocks.get_submodule("input")
        assert isinstance(first, _Conv)
        return first.w[:, :, 0, 0].T

    def forward(self, indices: Tensor) -> Tensor:
        """Return the six channels for one code per place, (n, h, w)."""
        first, *rest = self.blocks
        assert isinstance(first, _Conv)
        # A mixture of one code is its column: no 8192 channels are needed.
        values = embedding(indices, self.codes()).permute(0, 3, 1, 2) + first.b.view(1, -1, 1, 1)
        for layer in rest:
            values = layer(values)
        return values


class DalleDvaeTokenizer(PublishedTokenizer):
    """Encoder and decoder come in two files, `encoder.pkl` and `decoder.pkl`."""

    OUTSIDE = "250 M web images"

    def __init__(self, spec: DalleDvae, image_shape: tuple[int, int, int]) -> None:
        """Make the networks with random weights, under the published names."""
        super().__init__(spec, image_shape)
        self.encoder, self.decoder = Encoder(spec), Decoder(spec)

    def codebook(self) -> Tensor:
        """Return the codes (K, d) that the decoder reads."""
        return self.decoder.codes().detach().float().contiguous()

    def indices(self, pixels: Tensor) -> Tensor:
        """Return the indices (n, rows, columns) of the largest logits."""
        logits: Tensor = self.encoder((1 - 2 * _LOW) * pixels + _LOW)
        return logits.argmax(1)

    def pixels(self, indices: Tensor) -> Tensor:
        """Return the means of the pixels' distributions, not clipped."""
        logits: Tensor = self.decoder(indices)[:, :3]
        return (logits.sigmoid() - _LOW) / (1 - 2 * _LOW)

    def load(self) -> None:
        """Read both files. Raises DataError for one that is missing or is not what it should be."""
        spec = self.spec
        assert isinstance(spec, DalleDvae)
        for module, file, what in ((self.encoder, spec.checkpoint, "encoder"), (self.decoder, spec.decoder, "decoder")):
            load_published(module, read_tensors(file), file, f"dalle_dvae ({what})")


def build(spec: DalleDvae, image_shape: tuple[int, int, int]) -> DalleDvaeTokenizer:
    """Return the networks with random weights; `fit` loads the two files."""
    return DalleDvaeTokenizer(spec, image_shape)
