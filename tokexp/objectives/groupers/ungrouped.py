"""Every token alone: token-wise distillation, the baseline of every table of DTM (Kim et al. 2024)."""

import torch
from torch import Tensor

from tokexp.objectives.groupers.base import Grouper, Grouping
from tokexp.objectives.morphing.schedules import Level
from tokexp.spec.morphing import Ungrouped


class NoGrouping(Grouper):
    """As many groups as tokens."""

    scheduled = False

    def group(self, tokens: Tensor, level: Level, generator: torch.Generator) -> Grouping:
        """Return no labels."""
        del level, generator
        return Grouping(None, tokens.shape[1])


def build(spec: Ungrouped) -> NoGrouping:
    """Return the grouper of a spec."""
    del spec
    return NoGrouping()
