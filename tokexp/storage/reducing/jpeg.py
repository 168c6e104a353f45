"""Every image as a JPEG of one quality: SeiT's baseline "Adjusting JPEG quality factor" (Park et al. 2023, table B.5).

The encoder is Pillow's libjpeg with optimised Huffman tables. An image that is a JPEG file is decoded and encoded anew,
also where its own quality was lower.
"""

from collections.abc import Callable
from functools import partial

from tokexp.spec.reducing import JpegReduce
from tokexp.spec.storage import StorageSpec
from tokexp.storage.reducing.base import (
    Reduced,
    Reduction,
    Training,
    byte_limit,
    jpeg,
    kept_positions,
    measured,
    stored,
)
from tokexp.storage.reducing.solving import largest_fitting

QUALITIES = range(1, 96)
"""Qualities that make sense; above 95, libjpeg's files grow and look no better."""


class JpegQuality(Reduction):
    """All kept images at one quality."""

    def __init__(self, spec: JpegReduce) -> None:
        """Take the quality, or None for the largest that fits the budget."""
        self.spec = spec

    def reduce(self, training: Training, storage: StorageSpec) -> Reduced:
        """Return the images at the spec's quality, or at the largest that fits."""
        positions = kept_positions(training, storage)
        quality, limit = self.spec.quality, byte_limit(storage, len(training.labels))
        if quality is None:
            assert limit is not None, "a quality or a budget is checked at validation"
            quality = largest_fitting(
                QUALITIES,
                lambda tried: measured(
                    training, positions, self._encoder(training, tried), _facts(tried), f"images at quality {tried}"
                ),
                limit,
                "quality",
            )
        encode = self._encoder(training, quality)
        return stored(training, positions, encode, _facts(quality), {"quality": float(quality)})

    def _encoder(self, training: Training, quality: int) -> Callable[[int], bytes]:
        return partial(_encoded, training, quality, self.spec.subsampling)


def _encoded(training: Training, quality: int, subsampling: str, position: int) -> bytes:
    return jpeg(training.image(position), quality, subsampling)


def _facts(quality: int) -> dict[str, float | str]:
    return {"reduce": "jpeg", "quality": quality}


def build(spec: JpegReduce) -> JpegQuality:
    """Return the policy for a spec."""
    return JpegQuality(spec)
