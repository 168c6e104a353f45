"""Emb-Noise: x + s1 e1 + s2 e2, e1 per channel and e2 per element standard normal (SeiT section 3.3).

With both deviations 1 the added variance is 2, and two positions of one channel correlate with 0.5.
"""

import torch
from torch import Tensor

from tokexp.augment.base import Augmentation, AugmentContext, embedded
from tokexp.augment.subset import touched
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


class EmbNoise(Augmentation):
    """Adds noise to the embeddings of some samples; the others stay bit for bit."""

    def __init__(self, step: spec.EmbNoise, context: AugmentContext) -> None:
        """Take the deviations. Raises ValueError for `relative` without a codebook."""
        self.step = step
        self.context = context
        self.unit: Tensor | float = 1.0
        if step.relative:
            if context.codebook is None:
                raise ValueError("emb_noise: relative needs a codebook, and this experiment reads pixels")
            self.unit = context.codebook.spread

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values of the same shape."""
        batch = embedded(batch, self.context)
        values = batch.values
        assert values is not None
        if isinstance(self.unit, Tensor):
            self.unit = self.unit.to(values.device)
        chosen = touched(len(batch), self.step.prob, self.step.subset, generator)
        channel = torch.randn((*values.shape[:2], 1, 1), generator=generator, device=values.device)
        element = torch.randn(values.shape, generator=generator, device=values.device)
        noise = (channel * self.step.channel_std + element * self.step.element_std) * self.unit
        return batch.with_values(torch.where(chosen[:, None, None, None], values + noise, values))


def build(step: spec.EmbNoise, context: AugmentContext) -> EmbNoise:
    """Return the augmentation of a step."""
    return EmbNoise(step, context)
