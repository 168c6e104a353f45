"""Horizontal flip of pixels, drawn for every sample (torchvision's RandomHorizontalFlip, batched).

Tokens that are to be predicted beside the pixels are mirrored with them: each stays at its own part of the image.
"""

from dataclasses import replace

import torch

from tokexp.augment.base import Augmentation, AugmentContext, uniform
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


class PixelFlip(Augmentation):
    """Mirrors left and right of each image with probability `prob`."""

    def __init__(self, step: spec.PixelFlip) -> None:
        """Take the probability."""
        self.step = step

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values of the same shape. Raises ValueError for a batch of tokens."""
        if batch.values is None:
            raise ValueError("pixel_flip needs pixels, and the batch holds tokens: use token_adapt, whose space flips")
        flipped = uniform((len(batch),), generator) < self.step.prob
        beside = batch.target_indices
        if beside is not None:
            beside = torch.where(flipped[:, None, None], beside.flip(-1), beside)
        values = torch.where(flipped[:, None, None, None], batch.values.flip(-1), batch.values)
        return replace(batch.with_values(values), target_indices=beside)


def build(step: spec.PixelFlip, context: AugmentContext) -> PixelFlip:
    """Return the augmentation of a step."""
    del context
    return PixelFlip(step)
