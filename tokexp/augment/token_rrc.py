"""Token-RRC: random resized crop of the embedding map to the model's grid (SeiT; SeiT++ section 3.1).

SeiT crops one-hot maps and multiplies by the codebook afterwards. Both are linear, so looking up first gives the same
values with d channels instead of K.
"""

import torch

from tokexp.augment.base import Augmentation, AugmentContext, embedded
from tokexp.augment.crops import boxes, crop_taps, draw_crops, resample, resample_tokens
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


class TokenRrc(Augmentation):
    """Takes another random box of every sample, bicubic, to `context.grid`; tokens are looked up on the way."""

    def __init__(self, step: spec.TokenRrc, context: AugmentContext) -> None:
        """Take the ranges of area and aspect, and the grid to end at."""
        self.step = step
        self.context = context

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values (B, d, *context.grid)."""
        content = batch.values if batch.indices is None else batch.indices
        assert content is not None
        size = (content.shape[-2], content.shape[-1])
        box = boxes(draw_crops(len(batch), self.step.scale, self.step.ratio, generator), *size)
        codebook = self.context.codebook
        if batch.indices is not None and codebook is not None and codebook.is_table:
            taps = crop_taps(box, size, self.context.grid, codebook.codes.dtype)
            return batch.with_values(resample_tokens(batch.indices, codebook.codes, *taps))
        values = embedded(batch, self.context).values
        assert values is not None
        return batch.with_values(resample(values, *crop_taps(box, size, self.context.grid, values.dtype)))


def build(step: spec.TokenRrc, context: AugmentContext) -> TokenRrc:
    """Return the augmentation of a step."""
    return TokenRrc(step, context)
