"""Random resized crop of pixels (Szegedy et al. 2015), with the bicubic kernel of the token crop."""

import torch

from tokexp.augment.base import Augmentation, AugmentContext
from tokexp.augment.crops import random_resized_crop
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


class PixelRrc(Augmentation):
    """Takes another random box of every image, bicubic without antialias or clamping, to `context.grid`."""

    def __init__(self, step: spec.PixelRrc, context: AugmentContext) -> None:
        """Take the ranges of area and aspect, and the image size to end at."""
        self.step = step
        self.context = context

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values (B, C, *context.grid). Raises ValueError for a batch of tokens."""
        if batch.values is None:
            raise ValueError("pixel_rrc needs pixels, and the batch holds tokens: use token_rrc")
        cropped = random_resized_crop(batch.values, self.step.scale, self.step.ratio, self.context.grid, generator)
        return batch.with_values(cropped)


def build(step: spec.PixelRrc, context: AugmentContext) -> PixelRrc:
    """Return the augmentation of a step."""
    return PixelRrc(step, context)
