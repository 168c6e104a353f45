"""A backbone with a linear head: SeiT's supervised model and MTM's fine-tuned one (Park et al. 2023; SeiT++)."""

from torch import Tensor, nn

from tokexp.models.base import Backbone


class Classifier(nn.Module):
    """Token input, backbone, mean of the patches, norm, linear head."""

    def __init__(self, backbone: Backbone, token_input: nn.Module, num_classes: int, head_std: float = 0.02) -> None:
        """Take the parts, the number of classes and the deviation of the head's first weights (0 for zeros)."""
        super().__init__()
        self.backbone, self.token_input = backbone, token_input
        self.head = nn.Linear(backbone.width, num_classes)
        nn.init.normal_(self.head.weight, std=head_std)
        nn.init.zeros_(self.head.bias)

    def logits(self, values: Tensor) -> Tensor:
        """Return (B, classes) scores for embeddings or pixels (B, C, H, W) on the backbone's grid."""
        scores: Tensor = self.head(self.backbone(self.token_input(values)))
        return scores

    def forward(self, values: Tensor) -> Tensor:
        """Return `logits(values)`."""
        return self.logits(values)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return stem, positions, class token and token table; each block; final norm and head.

        SeiT++'s release leaves its token table in the last group, where it learns at the head's full rate; as the
        first layer of the network it belongs to the first group, and stands there here.
        """
        first, *blocks, last = self.backbone.layer_groups()
        return [[*self.token_input.parameters(), *first], *blocks, [*last, *self.head.parameters()]]
