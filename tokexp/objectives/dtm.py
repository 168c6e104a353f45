"""Dynamic token morphing (Kim et al. 2024, arXiv 2401.00254): predict a target's tokens, merged at random levels.

The student sees the image with blocks of patches replaced by one learned vector, at full length; the target sees all of
it. Every patch, masked or not, predicts by one linear layer; the loss is `morphing.loss`, on `groupers` that see the
target alone, at the granularities of `morphing.schedules`.
"""

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.objectives.base import Objective, ObjectiveContext, StepOutput
from tokexp.objectives.block_masks import block_order
from tokexp.objectives.morphing.term import INIT_STD, MorphingLoss
from tokexp.spec.distill import Dtm


class DynamicTokenMorphing(Objective):
    """Backbone, token input, mask vector and head. Metrics: groups, the mean number of groups of an image."""

    draws = True

    def __init__(self, spec: Dtm, context: ObjectiveContext) -> None:
        """Take the method and what it trains. Raises InputError for a target that does not fit."""
        super().__init__()
        self.spec, self.backbone, self.token_input = spec, context.backbone, context.token_input
        rows, columns = context.backbone.patch_grid
        self.num_patches, self.masked = rows * columns, spec.predicted(rows * columns)
        self.mask_vector = nn.Parameter(torch.empty(1, 1, context.backbone.width))
        nn.init.normal_(self.mask_vector, std=INIT_STD)
        self.term = MorphingLoss(spec, context)

    # Generators cannot be traced: what draws stays outside of what is compiled.
    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the loss of a batch of embeddings or pixels (B, C, H, W)."""
        if batch.values is None:
            raise ValueError("the batch holds indices; look them up first")
        hidden = self.draw(len(batch), generator)
        levels = self.term.morphed(batch.values, generator)
        output: StepOutput = self.term.loss(self.features(batch.values, hidden), levels)
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Return which patches are masked, (B, N) bool: exactly `masked` of every sample."""
        order, _ = block_order(self.spec.blocks, self.masked, samples, self.backbone.patch_grid, generator)
        hidden = torch.zeros(order.shape, dtype=torch.bool, device=order.device)
        return hidden.scatter(1, order[:, : self.masked], True)

    def features(self, values: Tensor, hidden: Tensor) -> Tensor:
        """Return features (B, N, width) of all patches after the final norm."""
        patches = self.backbone.embed(self.token_input(values))
        patches = torch.where(hidden[:, :, None], self.mask_vector.to(patches.dtype), patches)
        features: Tensor = self.backbone.norm(self.backbone.encode(patches))[:, 1:]
        return features

    def after_step(self) -> None:
        """Let a moving average follow."""
        self.term.follow(self.backbone, self.token_input)

    def undecayed(self) -> set[str]:
        """Return the class token and any table of positions; the mask vector is decayed, as in the release."""
        return {f"backbone.{name}" for name in self.backbone.undecayed()}


def build(spec: Dtm, context: ObjectiveContext) -> DynamicTokenMorphing:
    """Return the objective for a spec; build its backbone with learned positions."""
    return DynamicTokenMorphing(spec, context)
