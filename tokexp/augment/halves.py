"""The combinator `halves`: one list for the first half of the batch, one for the second (SeiT++'s release)."""

import torch

from tokexp.augment.base import Augmentation, AugmentContext
from tokexp.augment.policy import Policy
from tokexp.data.base import Batch, join
from tokexp.spec import augment as spec


class Halves(Augmentation):
    """Cuts the batch in two by position, treats each part by its own policy, and joins the results.

    The second part has one sample more where the count is odd. Each part ends as a policy does: looked up, on the
    model's grid. Targets are soft if either part's are.
    """

    def __init__(self, step: spec.Halves, context: AugmentContext) -> None:
        """Take the two lists of steps."""
        self.policies = [Policy(steps, context) for steps in step.halves]

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values on the model's grid, samples in the order in which they came."""
        half = len(batch) // 2
        parts = zip(self.policies, (batch.part(0, half), batch.part(half, len(batch))), strict=True)
        return join([policy(part, generator) for policy, part in parts if len(part)])


def build(step: spec.Halves, context: AugmentContext) -> Halves:
    """Return the augmentation of a step."""
    return Halves(step, context)
