"""Colour jitter of pixels in [0, 1], drawn for every sample (torchvision's ColorJitter without hue, batched).

Brightness: f x. Contrast: f x + (1 - f) m, m the mean of the grey image. Saturation: f x + (1 - f) g, g the grey image.
Each is clamped to [0, 1], each sample has its own factors f and its own order of the three. Nothing moves, so tokens of
the unchanged image stay in place.
"""

import torch
from torch import Tensor

from tokexp.augment.base import Augmentation, AugmentContext, uniform
from tokexp.data.base import Batch
from tokexp.spec import augment as spec

GREY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R 601-2, as torchvision has them)."""


def jitter(values: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Return values (B, C, H, W) changed by brightness, contrast and saturation, numbered 0, 1, 2.

    factors: (B, 3), one of each. order: (B, 3) int64, a permutation of 0, 1, 2 for every sample. C is 1 or 3.
    """
    for place in range(3):
        which = order[:, place, None, None, None]
        factor = factors.gather(1, order[:, place, None])[:, :, None, None]
        grey = _grey(values)
        towards = torch.where(which == 0, 0.0, torch.where(which == 1, grey.mean((2, 3), keepdim=True), grey))
        values = (factor * values + (1 - factor) * towards).clamp(0, 1)
    return values


def _grey(values: Tensor) -> Tensor:
    if values.shape[1] != len(GREY):
        return values.mean(1, keepdim=True)
    return (values * values.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)


class ColorJitter(Augmentation):
    """Changes the colours of every image by its own draws."""

    def __init__(self, step: spec.ColorJitter) -> None:
        """Take the strength."""
        self.step = step

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values of the same shape. Raises ValueError for a batch of tokens."""
        if batch.values is None:
            raise ValueError("color_jitter needs pixels, and the batch holds tokens: use color_adapt")
        strength, shape = self.step.strength, (len(batch), 3)
        factors = uniform(shape, generator, 1 - strength, 1 + strength)
        return batch.with_values(jitter(batch.values, factors, uniform(shape, generator).argsort(dim=1)))


def build(step: spec.ColorJitter, context: AugmentContext) -> ColorJitter:
    """Return the augmentation of a step."""
    del context
    return ColorJitter(step)
