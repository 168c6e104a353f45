"""Mixup of embeddings or pixels (Zhang et al. 2018): one weight per batch, partners by reversal."""

import torch
from torch import Tensor

from tokexp.augment.base import AugmentContext
from tokexp.augment.mixing import PairMixing, mixup_weights
from tokexp.spec import augment as spec


class Mixup(PairMixing):
    """Averages every map with its partner's, and the targets with the same weight."""

    def weights(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Return equal weights, beta distributed."""
        return mixup_weights(size, self.step.alpha, generator)


def build(step: spec.Mixup, context: AugmentContext) -> Mixup:
    """Return the augmentation of a step."""
    return Mixup(step, context)
