"""Class labels as the signal: soft-target cross-entropy with label smoothing (SeiT, Park et al. 2023, appendix B).

Also what fine-tuning trains (SeiT++ supplement C): with weights of a pre-training, and layer decay over its groups.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.objectives.base import Objective, ObjectiveContext, StepOutput
from tokexp.objectives.losses import soft_cross_entropy, top_k_accuracy
from tokexp.spec.objectives import Supervised


class Classifier(Objective):
    """Token input, backbone (pooled features) and a linear head.

    Metrics: accuracy, against the class of the largest target.
    """

    table_layer: Literal["first", "last"] = "first"
    """The layer group of an own token table: that of the stem, or, as in SeiT++'s release, that of the head."""

    def __init__(self, spec: Supervised, context: ObjectiveContext) -> None:
        """Take the recipe and what it trains; the head is new, with first weights N(0, head_std)."""
        super().__init__()
        self.label_smoothing = spec.label_smoothing
        self.backbone, self.token_input = context.backbone, context.token_input
        self.head = nn.Linear(context.backbone.width, context.num_classes)
        nn.init.normal_(self.head.weight, std=spec.head_std)
        nn.init.zeros_(self.head.bias)

    def logits(self, values: Tensor) -> Tensor:
        """Return (B, classes) scores for embeddings or pixels (B, C, H, W) on the backbone's grid."""
        scores: Tensor = self.head(self.backbone(self.token_input(values)))
        return scores

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the loss of a batch of values; nothing is drawn."""
        del generator
        if batch.values is None:
            raise ValueError("the batch holds indices; look them up first")
        targets, logits = batch.soft_targets(), self.logits(batch.values)
        accuracy = top_k_accuracy(logits.detach(), targets.argmax(-1))
        return StepOutput(soft_cross_entropy(logits, targets, self.label_smoothing), {"accuracy": accuracy})

    def undecayed(self) -> set[str]:
        """Return the backbone's: of a ViT the class token and the positions."""
        return {f"backbone.{name}" for name in self.backbone.undecayed()}

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return stem, positions and class token; each block; final norm and head; the token table by `table_layer`."""
        first, *blocks, last = self.backbone.layer_groups()
        groups = [first, *blocks, [*last, *self.head.parameters()]]
        groups[0 if self.table_layer == "first" else -1] += self.token_input.parameters()
        return groups


def build(spec: Supervised, context: ObjectiveContext) -> Classifier:
    """Return the objective for a spec."""
    return Classifier(spec, context)
