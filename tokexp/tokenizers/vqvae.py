"""A small convolutional autoencoder with a quantizer between, trained on the experiment's own images.

Source: van den Oord et al. 2017 (VQ-VAE), section 3 and 4.1; quantizers in `quantizers.py`. Reconstruction is the mean
squared error of pixels in [0, 1], and as options the losses of Esser et al. 2021 (VQGAN): LPIPS and a discriminator.
"""

from __future__ import annotations

from math import log2
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from tokexp.errors import InputError
from tokexp.objectives.base import Objective, StepOutput
from tokexp.spec.tokenizers import Perceptual, VqVae
from tokexp.tokenizers.base import Tokenizer, TokenizerInfo
from tokexp.tokenizers.code_use import CodeCounter
from tokexp.tokenizers.discriminator import PatchDiscriminator, adaptive_weight, deceiving, judging
from tokexp.tokenizers.quantizers import build_quantizer

if TYPE_CHECKING:
    from tokexp.data.base import Batch
    from tokexp.tokenizers.lpips import Lpips

_PIXELS = 1 << 24
"""Most pixels that are encoded or decoded at once."""


class Residual(nn.Module):
    """x + 1x1(SiLU(3x3(SiLU(x)))) on (B, width, H, W)."""

    def __init__(self, width: int) -> None:
        """Take the number of channels."""
        super().__init__()
        self.body = nn.Sequential(
            nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return values of the same shape."""
        out: Tensor = values + self.body(values)
        return out


def _encoder(channels: int, code_width: int, spec: VqVae) -> nn.Sequential:
    """(B, C, H, W) to (B, d, H / stride, W / stride): a strided convolution and residual blocks per halving."""
    layers: list[nn.Module] = [nn.Conv2d(channels, spec.width, 3, padding=1)]
    layers += [Residual(spec.width) for _ in range(spec.blocks)]
    for _ in range(int(log2(spec.stride))):
        layers += [nn.SiLU(), nn.Conv2d(spec.width, spec.width, 4, stride=2, padding=1)]
        layers += [Residual(spec.width) for _ in range(spec.blocks)]
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(spec.width, code_width, 1))


def _decoder(channels: int, code_width: int, spec: VqVae) -> nn.Sequential:
    """The mirror: nearest doubling and a convolution per step, which leaves no checkerboard."""
    layers: list[nn.Module] = [nn.Conv2d(code_width, spec.width, 3, padding=1)]
    for _ in range(int(log2(spec.stride))):
        layers += [Residual(spec.width) for _ in range(spec.blocks)]
        layers += [nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(spec.width, spec.width, 3, padding=1)]
    layers += [Residual(spec.width) for _ in range(spec.blocks)]
    return nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(spec.width, channels, 3, padding=1))


class VqVaeTokenizer(Tokenizer):
    """Encoder, quantizer, decoder. Encoding never changes the state, whatever the mode."""

    def __init__(self, spec: VqVae, image_shape: tuple[int, int, int]) -> None:
        """Make an untrained tokenizer from the global random generator. Raises InputError on sides not divisible."""
        super().__init__()
        self.spec = spec
        channels, height, width = image_shape
        if height % spec.stride or width % spec.stride:
            raise InputError(
                f"tokenizer.stride: {spec.stride} does not divide the image's {height} x {width} pixels; "
                "choose another stride or image size"
            )
        self.quantizer = build_quantizer(spec.quantizer)
        self.encoder = _encoder(channels, self.quantizer.width, spec)
        self.decoder = _decoder(channels, self.quantizer.width, spec)
        self.info = TokenizerInfo(
            image_shape=image_shape,
            grid=spec.grid(image_shape),
            pixels_per_token=spec.stride**2,
            implicit_codebook=bool(spec.quantizer.code_facts()),
            outside_data="none" if spec.perceptual is None else "labels of ImageNet-1k (in the perceptual loss)",
            mean=0.5,
            std=0.5,
        )
        self._chunk = max(1, _PIXELS // (spec.width * height * width))

    def features(self, images: Tensor) -> Tensor:
        """Return features (n, d, rows, columns) of images in [0, 1]."""
        out: Tensor = self.encoder((images - self.info.mean) / self.info.std)
        return out

    def pixels(self, values: Tensor) -> Tensor:
        """Return unclipped images for quantised features."""
        out: Tensor = self.decoder(values) * self.info.std + self.info.mean
        return out

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return int64 indices (n, rows, columns)."""
        if not len(images):
            return torch.empty((0, *self.info.grid), dtype=torch.int64, device=images.device)
        return torch.cat([self.quantizer.indices(self.features(chunk)) for chunk in images.split(self._chunk)])

    def codebook(self) -> Tensor:
        """Return the codes (K, d), float32."""
        return self.quantizer.codebook()

    def code_facts(self) -> dict[str, object]:
        """Return what the codes follow from where they are not stored."""
        return self.spec.quantizer.code_facts()

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        """Return images (n, C, H, W) in [0, 1]."""
        if not len(indices):
            return torch.empty((0, *self.info.image_shape), device=indices.device)
        codes = self.codebook()
        return torch.cat(
            [self.pixels(codes[chunk].permute(0, 3, 1, 2)).clamp(0, 1) for chunk in indices.split(self._chunk)]
        )

    @torch.no_grad()
    def decode_values(self, values: Tensor) -> Tensor:
        """Return images (n, C, H, W) in [0, 1] of vectors (n, d, rows, columns)."""
        return torch.cat([self.pixels(chunk).clamp(0, 1) for chunk in values.split(self._chunk)])

    def last_weights(self) -> Tensor:
        """Return the weights of the decoder's last convolution."""
        last = self.decoder[-1]
        assert isinstance(last, nn.Conv2d)
        return last.weight

    def objective(self) -> Objective:
        """Return the objective that trains this tokenizer."""
        return Reconstruction(self)


class Reconstruction(Objective):
    """Mean squared error of the pixels plus the quantizer's loss; as options, a loss of features and a discriminator.

    loss = mse + commitment + w_p perceptual + w_a l (deception), l the adaptive weight; beside it, the discriminator's
    own loss, which moves its weights alone. Both sides move in one update, by the same reconstruction: the released
    VQGAN moves them in turn. Metrics: mse, psnr (dB), commitment, codes_used (different codes in the micro-batch),
    and of the update before: codebook_use (share of the codes), perplexity, restarted (codes that were dead).
    """

    updates: Tensor
    codebook_use: Tensor
    perplexity: Tensor
    restarted: Tensor

    def __init__(self, tokenizer: VqVaeTokenizer) -> None:
        """Take the tokenizer that is trained in place."""
        super().__init__()
        self.tokenizer, spec = tokenizer, tokenizer.spec
        self.adversarial, self._perceptual = spec.adversarial, spec.perceptual
        self.discriminator = None
        if spec.adversarial is not None:
            self.discriminator = PatchDiscriminator(tokenizer.info.image_shape[0], spec.adversarial)
        # In a tuple, no part of the state: it never changes, and checkpoints would hold it.
        self._lpips: tuple[Lpips, ...] = () if spec.perceptual is None else (_lpips(spec.perceptual),)
        for name in ("updates", "codebook_use", "perplexity", "restarted"):
            self.register_buffer(name, torch.zeros(()))
        self._counter = CodeCounter(len(tokenizer.codebook()))

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return loss and metrics for a batch of pixels (B, C, H, W) in [0, 1]."""
        images = batch.values
        if images is None:
            raise ValueError("a tokenizer is trained on pixels, not on indices")
        quantized = self.tokenizer.quantizer(self.tokenizer.features(images), generator)
        made = self.tokenizer.pixels(quantized.values).float()
        mse = mse_loss(made, images.float())
        metrics = {
            "mse": mse.detach(),
            "psnr": -10 * mse.detach().clamp_min(1e-12).log10(),
            "commitment": quantized.loss.detach(),
            "codes_used": torch.tensor(float(len(quantized.indices.unique())), device=images.device),
        }
        if self.training:
            self._counter.add(quantized.indices)
        for name in ("codebook_use", "perplexity", "restarted"):
            metrics[name] = getattr(self, name).clone()
        likeness = mse + self._features_loss(made, images.float(), metrics)
        loss = likeness + quantized.loss
        if self.discriminator is not None and self.training:
            loss = loss + self._contest(likeness, made, images.float(), metrics)
        return StepOutput(loss, metrics)

    def _features_loss(self, made: Tensor, images: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        if self._perceptual is None:
            return made.new_zeros(())
        distance: Tensor = self._lpips[0].to(made.device)(made, images)
        metrics["perceptual"] = distance.detach()
        return self._perceptual.weight * distance

    def _contest(self, likeness: Tensor, made: Tensor, images: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Return the losses of both sides; before `start` they count nothing, but no gradient is missing."""
        assert self.adversarial is not None
        assert self.discriminator is not None
        deception, judgement = deceiving(self.discriminator, made), judging(self.discriminator, images, made)
        adaptive = adaptive_weight(likeness, deception, self.tokenizer.last_weights())
        metrics |= {"deception": deception.detach(), "judgement": judgement.detach(), "adaptive_weight": adaptive}
        begun = (self.updates >= self.adversarial.start).float()
        return begun * (self.adversarial.weight * adaptive * deception + judgement)

    def after_step(self) -> None:
        """Move the codes, and note how they were used."""
        self.updates += 1
        self.restarted.copy_(self.tokenizer.quantizer.update())
        use = self._counter.take()
        if use is not None:
            self.codebook_use.copy_(use.share)
            self.perplexity.copy_(use.perplexity)


def _lpips(spec: Perceptual) -> Lpips:
    from tokexp.tokenizers.lpips import Lpips  # its network is torchvision's, which takes a second to import

    return Lpips(spec.vgg, spec.linear)


def build(spec: VqVae, image_shape: tuple[int, int, int]) -> VqVaeTokenizer:
    """Return an untrained tokenizer for images (channels, height, width)."""
    return VqVaeTokenizer(spec, image_shape)
