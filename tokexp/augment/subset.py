"""Which samples of a batch a step touches, and who their partners are (SeiT++ release: an exact half, reversed)."""

from typing import Literal

import torch
from torch import Tensor

from tokexp.augment.base import uniform

Subset = Literal["bernoulli", "exact_count"]
Partner = Literal["random", "reversed"]


def touched(count: int, prob: float, how: Subset, generator: torch.Generator) -> Tensor:
    """Draw a mask (count,): each sample by itself, or exactly floor(count x prob) random ones."""
    numbers = uniform((count,), generator)
    if how == "bernoulli":
        return numbers < prob
    return numbers.argsort().argsort() < int(count * prob)


def partners(count: int, how: Partner, generator: torch.Generator) -> Tensor:
    """Return the position (count,) of every sample's partner.

    random: uniform over all other samples, never the sample itself unless it is alone. reversed: count - 1 - position,
    so that the middle one of an odd batch is its own partner.
    """
    positions = torch.arange(count, device=generator.device)
    if how == "reversed":
        return positions.flip(0)
    if count < 2:
        return positions
    step = torch.randint(1, count, (count,), generator=generator, device=generator.device)
    return (positions + step) % count
