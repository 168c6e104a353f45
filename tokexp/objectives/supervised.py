"""Class labels as the signal: soft-target cross-entropy with label smoothing (SeiT, Park et al. 2023, appendix B)."""

import torch
from torch import nn

from tokexp.data.base import Batch
from tokexp.models.classifier import Classifier
from tokexp.models.token_input import TokenInput
from tokexp.objectives.base import Objective, ObjectiveContext, StepOutput
from tokexp.objectives.losses import soft_cross_entropy, top_k_accuracy
from tokexp.spec.objectives import Supervised


class SupervisedObjective(Objective):
    """A classifier and its loss. Metrics: accuracy, against the class of the largest target."""

    def __init__(self, classifier: Classifier, label_smoothing: float) -> None:
        """Take what is trained and the share of a target that is spread over all classes."""
        super().__init__()
        self.classifier, self.label_smoothing = classifier, label_smoothing

    @property
    def backbone(self) -> nn.Module:
        """The backbone that is trained."""
        return self.classifier.backbone

    @property
    def token_input(self) -> nn.Module:
        """What embeds the tokens."""
        return self.classifier.token_input

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the loss of a batch of values; nothing is drawn."""
        del generator
        if batch.values is None:
            raise ValueError("the batch holds indices; look them up first")
        targets = batch.soft_targets()
        logits = self.classifier.logits(batch.values)
        accuracy = top_k_accuracy(logits.detach(), targets.argmax(-1))
        return StepOutput(soft_cross_entropy(logits, targets, self.label_smoothing), {"accuracy": accuracy})

    def undecayed(self) -> set[str]:
        """Return the class token and the positions, as DeiT does."""
        return {"classifier.backbone.class_token", "classifier.backbone.positions"}

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the classifier's groups."""
        return self.classifier.layer_groups()


def build(spec: Supervised, context: ObjectiveContext) -> SupervisedObjective:
    """Return the objective for a spec; tokens enter as their codes."""
    token_input = nn.Identity() if context.codebook is None else TokenInput(context.codebook, "codebook")
    return SupervisedObjective(Classifier(context.backbone, token_input, context.num_classes), spec.label_smoothing)
