"""A policy: steps applied to a batch one after the other, ending in values on the grid that the model reads."""

from collections.abc import Sequence
from typing import cast

import torch

from tokexp.augment.base import Augmentation, AugmentContext, embedded
from tokexp.augment.crops import centre_crop
from tokexp.data.base import Batch
from tokexp.registry import implementation
from tokexp.spec.augment import COMBINATORS
from tokexp.spec.base import Spec


def build_step(step: Spec, context: AugmentContext) -> Augmentation:
    """Return the augmentation of one step, a combinator or a kind."""
    named = (name for name, cls in COMBINATORS.items() if isinstance(step, cls))
    kind = getattr(step, "kind", None) or next(named)
    return cast(Augmentation, implementation("augment", kind)(step, context))


class Policy(Augmentation):
    """Applies all steps in their order; then looks up what is still indices and centre-crops what is still too large.

    So an empty policy, or one without a cropping step, trains on the centre crop.
    """

    def __init__(self, steps: Sequence[Spec], context: AugmentContext) -> None:
        """Take the steps' specs. Raises ValueError for a step that the context cannot serve."""
        self.steps = [build_step(step, context) for step in steps]
        self.context = context

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values (B, C, *context.grid); the given batch stays as it was."""
        with torch.no_grad():
            for step in self.steps:
                batch = step(batch, generator)
            return self.centre(batch)

    def centre(self, batch: Batch) -> Batch:
        """Return the batch as it is evaluated: looked up and centre-cropped to `context.grid`, nothing drawn."""
        if batch.indices is not None:
            cut = centre_crop(batch.indices, self.context.grid)
            batch = Batch(batch.labels, batch.num_classes, indices=cut, targets=batch.targets)
        batch = embedded(batch, self.context)
        assert batch.values is not None
        return batch.with_values(centre_crop(batch.values, self.context.grid))
