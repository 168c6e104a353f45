"""All tokens of an image as one group: its mean against the target's (own; the limit of Kim et al. 2024, DTM)."""

import torch
from torch import Tensor

from tokexp.objectives.groupers.base import Grouper, Grouping
from tokexp.objectives.morphing.schedules import Level
from tokexp.spec.morphing import Whole


class WholeImage(Grouper):
    """One group."""

    scheduled = False

    def group(self, tokens: Tensor, level: Level, generator: torch.Generator) -> Grouping:
        """Return labels of 0."""
        del level, generator
        return Grouping(torch.zeros(tokens.shape[:2], dtype=torch.int64, device=tokens.device), 1)


def build(spec: Whole) -> WholeImage:
    """Return the grouper of a spec."""
    del spec
    return WholeImage()
