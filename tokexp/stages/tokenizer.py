"""The tokenizer stage: fit or train a tokenizer on the training images, or load a published one."""

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

from tokexp.data.base import Batch, ImageSource
from tokexp.durable import files_digest
from tokexp.engine.batches import PixelFeed
from tokexp.engine.loop import Phase, fit
from tokexp.engine.randomness import key_of
from tokexp.errors import DataError, InputError
from tokexp.registry import implementation
from tokexp.spec.stages import TokenizerStage
from tokexp.spec.tokenizers import VqVae
from tokexp.stages.assembly import describe_model, image_shape, image_source, save_weights
from tokexp.stages.base import Stage, StageContext, StageResult
from tokexp.tokenizers.base import Tokenizer

_CHUNK = 512
_NUMBERS = 1 << 26
"""Most numbers of pixels that are decoded at once."""

_MEASURED = 1000
"""Held-out images that the reconstruction is measured on."""


class TokenizerFit(Stage):
    """Fits without gradients (k-means) or trains by the tokenizer's own objective (VQ-VAE)."""

    def __init__(self, payload: TokenizerStage) -> None:
        """Take what to fit, and on what."""
        self.payload = payload

    def run(self, context: StageContext) -> StageResult:
        """Write tokenizer.safetensors; metrics: psnr in dB on held-out images, and what the tokenizer reports."""
        data, spec = self.payload.data, self.payload.tokenizer
        _check_file(self.payload)
        source = image_source(data, context)
        torch.manual_seed(key_of(getattr(spec, "seed", 0), "tokenizer/init"))
        tokenizer: Tokenizer = implementation("tokenizers", spec.kind)(spec, image_shape(data))
        tokenizer.to(context.device)
        metrics = self._train(tokenizer, source, context)
        tokenizer.eval()
        save_weights(tokenizer.state_dict(), context.output / "tokenizer.safetensors")
        if tokenizer.info.decodes and len(source.labels("test")):
            metrics["psnr"] = psnr(tokenizer, source, context.device)
        facts = describe_model(tokenizer) | {"grid": list(tokenizer.info.grid), "codes": len(tokenizer.codebook())}
        return StageResult(metrics, facts | {"outside_data": tokenizer.info.outside_data})

    def _train(self, tokenizer: Tokenizer, source: ImageSource, context: StageContext) -> dict[str, float]:
        objective = tokenizer.objective()
        if objective is None:
            return tokenizer.fit(_chunks(source, context))
        spec = self.payload.tokenizer
        assert isinstance(spec, VqVae)
        phase = Phase("tokenizer", spec.train, spec.seed, context.device, context.scratch, context.report, context.stop)
        return fit(objective, PixelFeed(source, "train", context.device), _as_it_is, phase).metrics


def _check_file(payload: TokenizerStage) -> None:
    files: tuple[str, ...] = payload.tokenizer.files() if hasattr(payload.tokenizer, "files") else ()
    try:
        same = not files or payload.weights == files_digest(files)
    except OSError as error:
        raise DataError(f"tokenizer: {error.filename!r}: {error.strerror}") from error
    if not same:
        names = ", ".join(files)
        raise InputError(f"tokenizer: {names} is not what was planned with; start the run again")


def psnr(tokenizer: Tokenizer, source: ImageSource, device: torch.device) -> float:
    """Return the peak signal-to-noise ratio in dB of decoded test images, from their mean squared error.

    There must be test images. Large ones are read a part at a time.
    """
    count = min(_MEASURED, len(source.labels("test")))
    at_once = max(1, _NUMBERS // prod(tokenizer.info.image_shape))
    error = torch.zeros((), device=device)
    with torch.inference_mode():
        for start in range(0, count, at_once):
            images = source.read("test", range(start, min(start + at_once, count))).to(device)
            mean = (tokenizer.decode(tokenizer.encode(images)) - images).square().mean()
            error += mean * (len(images) / count)
    return float(-10 * error.clamp_min(1e-12).log10())


def _as_it_is(batch: Batch, generator: torch.Generator) -> Batch:
    del generator
    return batch


def _chunks(source: ImageSource, context: StageContext) -> Iterator[Tensor]:
    count = len(source.labels("train"))
    for start in range(0, count, _CHUNK):
        yield source.read("train", range(start, min(start + _CHUNK, count))).to(context.device)
        context.report.progress(min(start + _CHUNK, count), count, "images")


def build(payload: TokenizerStage) -> TokenizerFit:
    """Return the stage for a payload."""
    return TokenizerFit(payload)
