"""The combinator `sometimes`: a list of steps that a batch gets with some probability, one draw for the batch.

Own; with `one_of` it says what the releases of SeiT and SeiT++ write as flags.
"""

import torch

from tokexp.augment.base import Augmentation, AugmentContext, uniform
from tokexp.augment.policy import build_step
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


class Sometimes(Augmentation):
    """Applies all of its steps, or none."""

    def __init__(self, step: spec.Sometimes, context: AugmentContext) -> None:
        """Take the probability and the steps."""
        self.prob = step.sometimes
        self.steps = [build_step(inner, context) for inner in step.do]

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the changed batch, or the given one."""
        if float(uniform((), generator)) >= self.prob:
            return batch
        for step in self.steps:
            batch = step(batch, generator)
        return batch


def build(step: spec.Sometimes, context: AugmentContext) -> Sometimes:
    """Return the augmentation of a step."""
    return Sometimes(step, context)
