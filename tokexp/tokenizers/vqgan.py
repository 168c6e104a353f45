"""VQGAN: a convolutional encoder, a table of codes, a decoder; four released ones, of 16 or 8 pixels per token.

Sources: Esser et al. 2021 (VQGAN); Rombach et al. 2022 (latent diffusion) for f8-256; Ramesh et al. 2021 for the Gumbel
variant. Names follow the released weights (CompVis). Pixels are brought to [-1, 1]; shorter side and centre are cut
(`data.resize: crop`). Nearest codes are by Euclidean distance, without normalisation. The Gumbel variant takes the
largest logit: its release draws noise in evaluation too, which would make tokens random.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import embedding

from tokexp.spec.published_tokenizers import Vqgan
from tokexp.tokenizers.base import Codebook
from tokexp.tokenizers.published import PublishedTokenizer
from tokexp.tokenizers.vqgan_network import Decoder, Encoder


class _Nearest(nn.Module):
    """Codes (K, d); a feature's token is the nearest."""

    def __init__(self, spec: Vqgan) -> None:
        super().__init__()
        self.embedding = nn.Embedding(spec.codebook_size, spec.code_dim)

    def codes(self) -> Tensor:
        return self.embedding.weight

    def forward(self, features: Tensor) -> Tensor:
        return Codebook(self.codes().detach()).nearest(features)


class _Gumbel(nn.Module):
    """Codes (K, d) and logits for each of them; a feature's token is the largest logit."""

    def __init__(self, spec: Vqgan) -> None:
        super().__init__()
        self.proj = nn.Conv2d(spec.code_dim, spec.codebook_size, 1)
        self.embed = nn.Embedding(spec.codebook_size, spec.code_dim)

    def codes(self) -> Tensor:
        return self.embed.weight

    def forward(self, features: Tensor) -> Tensor:
        tokens: Tensor = self.proj(features).argmax(1)
        return tokens


class VqganTokenizer(PublishedTokenizer):
    """Any number of pixels whose sides the stride divides, as all is convolution and one attention."""

    DROP = ("loss.", "model_ema.")

    def __init__(self, spec: Vqgan, image_shape: tuple[int, int, int]) -> None:
        """Make the network with random weights, under the published names."""
        super().__init__(spec, image_shape)
        self.encoder, self.decoder = Encoder(spec), Decoder(spec)
        self.quant_conv = nn.Conv2d(spec.z_channels, spec.code_dim, 1)
        self.post_quant_conv = nn.Conv2d(spec.code_dim, spec.z_channels, 1)
        self.quantize: _Nearest | _Gumbel = _Gumbel(spec) if spec.quantizer == "gumbel" else _Nearest(spec)

    def outside_data(self) -> str:
        """Return what this variant was trained on."""
        assert isinstance(self.spec, Vqgan)
        return "ImageNet-1k" if self.spec.variant.startswith("f16") else "OpenImages"

    def codebook(self) -> Tensor:
        """Return the codes (K, d)."""
        return self.quantize.codes().detach().float()

    def indices(self, pixels: Tensor) -> Tensor:
        """Return indices (n, rows, columns)."""
        tokens: Tensor = self.quantize(self.quant_conv(self.encoder(pixels * 2 - 1)))
        return tokens

    def pixels(self, indices: Tensor) -> Tensor:
        """Return decoded pixels, not clipped."""
        codes = embedding(indices, self.quantize.codes()).permute(0, 3, 1, 2)
        out: Tensor = self.decoder(self.post_quant_conv(codes))
        return (out + 1) / 2


def build(spec: Vqgan, image_shape: tuple[int, int, int]) -> VqganTokenizer:
    """Return the network with random weights; `fit` loads the checkpoint."""
    return VqganTokenizer(spec, image_shape)
