"""What every augmentation is, what it may use, and the policy that applies a list of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.tokenizers.base import Codebook


@dataclass(frozen=True)
class AugmentContext:
    """What steps are built with.

    codebook: the codes in use, None for pixels. grid: (rows, columns) that the model reads. adapt: the trained
    networks of TokenAdapt, None where no policy uses them.
    """

    grid: tuple[int, int]
    codebook: Codebook | None = None
    adapt: nn.Module | None = None


class Augmentation(ABC):
    """A random change of a batch. All draws come from the generator, which lives on the batch's device."""

    @abstractmethod
    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the changed batch; the given one stays as it was."""


def embedded(batch: Batch, context: AugmentContext) -> Batch:
    """Return the batch with its indices looked up in the codebook, if they are not yet."""
    if batch.values is not None or batch.indices is None:
        return batch
    if context.codebook is None:
        raise ValueError("indices cannot be looked up without a codebook")
    return batch.with_values(context.codebook.lookup(batch.indices))


def uniform(shape: tuple[int, ...], generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Draw float32 numbers from [low, high) on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low
