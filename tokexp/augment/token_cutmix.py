"""Token-CutMix: CutMix on the embedding map (SeiT section 3.3): one box per batch, partners by reversal."""

import torch

from tokexp.augment.base import Augmentation, AugmentContext, embedded
from tokexp.augment.mixing import blend, cutmix_weights, sometimes
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


class TokenCutmix(Augmentation):
    """Replaces a box of every map by its partner's, and mixes the targets by area."""

    def __init__(self, step: spec.TokenCutmix, context: AugmentContext) -> None:
        """Take alpha and the probability."""
        self.step = step
        self.context = context

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values of the same shape and soft targets."""
        batch = embedded(batch, self.context)
        assert batch.values is not None
        height, width = batch.values.shape[-2:]
        weights = cutmix_weights((height, width), self.step.alpha, generator)
        return blend(batch, sometimes(weights, self.step.prob, generator))


def build(step: spec.TokenCutmix, context: AugmentContext) -> TokenCutmix:
    """Return the augmentation of a step."""
    return TokenCutmix(step, context)
