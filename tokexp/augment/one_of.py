"""The combinator `one_of`: exactly one of several steps, drawn once for the batch or for every sample.

Per batch is how SeiT++'s release chooses between Emb-Noise and ColorAdapt; per sample is the paper's reading.
"""

import torch
from torch import Tensor

from tokexp.augment.base import Augmentation, AugmentContext
from tokexp.augment.policy import Policy, build_step
from tokexp.data.base import Batch, join
from tokexp.spec import augment as spec


class OneOf(Augmentation):
    """Applies one step to the whole batch, or to every sample one of its own.

    Per sample, a step sees only the samples that drew it, so its partners come from among them. Where the results
    differ in form (tokens and embeddings) or size, all of them are brought to values on the model's grid.
    """

    def __init__(self, step: spec.OneOf, context: AugmentContext) -> None:
        """Take steps, weights and how often is drawn."""
        self.steps = [build_step(inner, context) for inner in step.one_of]
        self.weights = torch.tensor(step.weights or (1.0,) * len(self.steps))
        self.per = step.per
        self.rest = Policy((), context)

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the changed batch, samples in the order in which they came."""
        self.weights = self.weights.to(generator.device)
        count = 1 if self.per == "batch" else max(len(batch), 1)
        drawn = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        if self.per == "batch":
            return self.steps[int(drawn)](batch, generator)
        places = [(drawn == number).nonzero()[:, 0] for number in range(len(self.steps))]
        used = [(step, place) for step, place in zip(self.steps, places, strict=True) if len(place)]
        parts = [step(_take(batch, place), generator) for step, place in used]
        return _take(self._together(parts), torch.cat([place for _, place in used]).argsort())

    def _together(self, parts: list[Batch]) -> Batch:
        contents = [part.values if part.indices is None else part.indices for part in parts]
        shapes = {None if content is None else content.shape[1:] for content in contents}
        if len(shapes) > 1:
            parts = [self.rest.centre(part) for part in parts]
        indices = [part.indices for part in parts if part.indices is not None]
        if not indices:
            return join(parts)
        joined = join([part.with_values(part.indices) for part in parts if part.indices is not None])
        return Batch(joined.labels, joined.num_classes, indices=joined.values, targets=joined.targets)


def _take(batch: Batch, places: Tensor) -> Batch:
    cut = {name: getattr(batch, name) for name in ("indices", "values", "targets", "target_indices")}
    picked = {name: None if item is None else item[places] for name, item in cut.items()}
    return Batch(batch.labels[places], batch.num_classes, **picked)


def build(step: spec.OneOf, context: AugmentContext) -> OneOf:
    """Return the augmentation of a step."""
    return OneOf(step, context)
