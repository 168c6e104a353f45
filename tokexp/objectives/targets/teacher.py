"""The encoder that a stage trained, frozen (own; as the `teacher` of Kim et al. 2024, DTM, is any frozen encoder)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.objectives.targets.base import Target
from tokexp.spec.teachers import TeacherTarget


class EncoderTarget(Target):
    """A backbone and what embeds its input; tokens are the patches after the final norm."""

    def __init__(self, backbone: Backbone, token_input: nn.Module) -> None:
        """Take both; their gradients are switched off."""
        super().__init__()
        self.backbone, self.token_input = backbone, token_input
        self.width, self.patch_grid = backbone.width, backbone.patch_grid
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, values: Tensor) -> Tensor:
        """Return the tokens (B, N, width); any backbone can do that."""
        encoded = self.backbone.encode(self.backbone.embed(self.token_input(values)))
        return self.finish(encoded[:, self.prefix :])

    def start(self, values: Tensor) -> Tensor:
        """Return what the first block gets. Raises InputError for a backbone without one sequence of blocks."""
        return self.backbone.place(self.backbone.embed(self.token_input(values)))

    def blocks(self) -> Iterable[nn.Module]:
        """Return the backbone's blocks."""
        if getattr(self.backbone, "bias", None) is not None:
            raise InputError("biases of relative positions are of all patches, so this target's blocks cannot be run "
                             "on merged ones; write model.positions: absolute")  # fmt: skip
        found = getattr(self.backbone, "blocks", None)
        if not isinstance(found, nn.ModuleList):
            raise InputError("this target has no plain sequence of blocks; choose another grouper than layerwise")
        return found

    def finish(self, tokens: Tensor) -> Tensor:
        """Return tokens after the final norm."""
        normed: Tensor = self.backbone.norm(tokens)
        return normed


def build(spec: TeacherTarget, backbone: Backbone, token_input: nn.Module) -> EncoderTarget:
    """Return the target for a trained encoder."""
    del spec
    return EncoderTarget(backbone, token_input)
