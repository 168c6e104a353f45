"""Mixup of embeddings or pixels (Zhang et al. 2018): one weight per batch, partners by reversal."""

import torch

from tokexp.augment.base import Augmentation, AugmentContext, embedded
from tokexp.augment.mixing import blend, mixup_weights, sometimes
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


class Mixup(Augmentation):
    """Averages every map with its partner's, and the targets with the same weight."""

    def __init__(self, step: spec.Mixup, context: AugmentContext) -> None:
        """Take alpha and the probability."""
        self.step = step
        self.context = context

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values of the same shape and soft targets."""
        batch = embedded(batch, self.context)
        assert batch.values is not None
        height, width = batch.values.shape[-2:]
        weights = mixup_weights((height, width), self.step.alpha, generator)
        return blend(batch, sometimes(weights, self.step.prob, generator))


def build(step: spec.Mixup, context: AugmentContext) -> Mixup:
    """Return the augmentation of a step."""
    return Mixup(step, context)
