"""Token-CutMix: CutMix on the embedding map (SeiT section 3.3): one box per batch, partners by reversal."""

import torch
from torch import Tensor

from tokexp.augment.base import AugmentContext
from tokexp.augment.mixing import PairMixing, cutmix_weights
from tokexp.spec import augment as spec


class TokenCutmix(PairMixing):
    """Replaces a box of every map by its partner's, and mixes the targets by area."""

    def weights(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Return 0 inside a random box and 1 outside."""
        return cutmix_weights(size, self.step.alpha, generator)


def build(step: spec.TokenCutmix, context: AugmentContext) -> TokenCutmix:
    """Return the augmentation of a step."""
    return TokenCutmix(step, context)
