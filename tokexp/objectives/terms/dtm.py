"""Morphing as a term of an objective whose encoder sees every patch (Kim et al. 2024, DTM, table 3: BEiT v2 + DTM).

The patches that leave the last block go through the final norm and a linear layer of their own; they predict what the
target makes of the image that the objective was given. BEiT v2's loss over its tokens stays as it is.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.objectives.base import Objective, ObjectiveContext
from tokexp.objectives.morphing.term import MorphingLoss
from tokexp.objectives.targets.base import Target
from tokexp.objectives.terms.base import Term
from tokexp.spec.morphing_terms import DtmTerm


class MorphingBeside(Term):
    """Watches the last block. `join` gives it the target, without which it cannot be used."""

    draws = True

    def __init__(self, spec: DtmTerm, backbone: Backbone) -> None:
        """Take the spec, and whose patches are compared. Raises InputError for a backbone without plain blocks."""
        super().__init__()
        blocks = getattr(backbone, "blocks", None)
        if not isinstance(blocks, nn.ModuleList):
            raise InputError("the term dtm needs a backbone of blocks over all patches: model.kind: vit")
        self._spec, self._students = spec, tuple[nn.Module, ...]()
        self._backbone = (backbone,)  # in a tuple it stays the objective's own
        self._watching, self._seen = False, list[Tensor]()
        self.matched: MorphingLoss | None = None
        blocks[-1].register_forward_hook(self._see)

    def join(self, objective: Objective, target: Target | None) -> None:
        """Take the target; a moving average follows the objective's backbone and token input."""
        token_input = objective.token_input
        assert isinstance(token_input, nn.Module)
        self._students = (self._backbone[0], token_input)
        self.matched = MorphingLoss(self._spec, ObjectiveContext(self._backbone[0], token_input, 1, target=target))

    def begin(self) -> None:
        """Forget what was seen, and watch."""
        self._watching, self._seen = True, []

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the morphing loss, averaged over the times that the encoder was used on all patches."""
        self._watching, seen, self._seen = False, self._seen, []
        backbone, matched = self._backbone[0], self.matched
        assert matched is not None
        assert batch.values is not None
        patches = backbone.patch_grid[0] * backbone.patch_grid[1]
        if not seen or any(each.shape[1] != 1 + patches for each in seen):
            raise InputError("the term dtm compares all patches, and this objective's encoder does not see them all")
        levels = matched.morphed(batch.values, generator)
        losses = [matched.loss(backbone.norm(each)[:, 1:], levels).loss for each in seen]
        return torch.stack(losses).mean()

    def after_step(self) -> None:
        """Let a moving average follow."""
        if self.matched is not None:
            self.matched.follow(*self._students)

    def _see(self, module: nn.Module, given: Any, found: Tensor) -> None:
        del module, given
        if self._watching:
            self._seen.append(found)


def build(spec: DtmTerm, backbone: Backbone) -> MorphingBeside:
    """Return the term for a spec."""
    return MorphingBeside(spec, backbone)
