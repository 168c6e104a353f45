"""Orthogonal region filters: || W W^T - 1 ||^2 over MoTo's f (AttenNorm, Wang et al. 2020, section 3.2)."""

import torch
from torch import Tensor

from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.objectives.terms.base import Term
from tokexp.spec.terms import Orthogonality


class Orthogonal(Term):
    """Sums over all of the backbone's modulations; reads weights alone."""

    def __init__(self, backbone: Backbone) -> None:
        """Take whose filters are held. Raises InputError for a backbone without MoTo."""
        super().__init__()
        found = [module for name, module in backbone.named_modules() if name.rpartition(".")[2] == "semantic"]
        if not found:
            raise InputError("the term orthogonality holds MoTo's filters: it needs model.stem.kind: moto")
        # In a tuple, these stay the backbone's own.
        self._filters = tuple(found)

    def begin(self) -> None:
        """Nothing is watched."""

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the sum of squares."""
        del batch, generator
        weights = [module.weight.flatten(1).float() for module in self._filters]
        return torch.stack([(w @ w.mT - torch.eye(len(w), device=w.device)).square().sum() for w in weights]).sum()


def build(spec: Orthogonality, backbone: Backbone) -> Orthogonal:
    """Return the term for a spec."""
    del spec
    return Orthogonal(backbone)
