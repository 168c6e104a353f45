"""BEiT: masked image modelling whose masks are made of blocks (Bao et al. 2022; Peng et al. 2022 for the exact count).

The loss is that of `mim`; the masks are those of `block_masks`. With `blocks.exact` off, as in BEiT's first release,
samples differ in how many patches are masked: each counts what its blocks came to, and shapes stay those of the most.
"""

import torch

from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.block_masks import block_order
from tokexp.objectives.mim import MaskedImageModelling
from tokexp.objectives.token_prediction import Chosen
from tokexp.spec.masked import Beit


class BlockwiseModelling(MaskedImageModelling):
    """Hides blocks of patches and predicts their tokens."""

    def __init__(self, spec: Beit, context: ObjectiveContext) -> None:
        """Take the method and what it trains."""
        super().__init__(spec, context)
        self.blocks = spec.blocks

    def draw(self, samples: int, generator: torch.Generator) -> Chosen:
        """Return the order of the patches, those in blocks first, and how many these are where they may differ."""
        order, counts = block_order(self.blocks, self.masked, samples, self.backbone.patch_grid, generator)
        return Chosen(order, None if self.blocks.exact else counts.clamp(max=self.masked))


def build(spec: Beit, context: ObjectiveContext) -> BlockwiseModelling:
    """Return the objective for a spec; build its backbone with learned positions."""
    return BlockwiseModelling(spec, context)
