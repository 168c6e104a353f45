"""What every term is: a loss from what the backbone does while an objective works."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.objectives.base import Objective
from tokexp.objectives.targets.base import Target


class Term(nn.Module, ABC):
    """A loss beside that of an objective, with weights of its own that are thrown away when training ends.

    It watches the objective's backbone by hooks, which `build(spec, backbone)` sets; so no objective knows of it. The
    backbone is no submodule of it. `draws` and what it asks for are as in `Objective`, for `loss`.
    """

    draws: ClassVar[bool] = False

    def join(self, objective: Objective, target: Target | None) -> None:
        """Take what else a term needs: the objective, and the frozen network of the stage; nothing by default."""
        del objective, target

    @abstractmethod
    def begin(self) -> None:
        """Forget what was seen, and watch until `loss` is asked for."""

    @abstractmethod
    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return a scalar float32 of what was seen since `begin`, for the batch that the objective was given."""

    def after_step(self) -> None:
        """Do what follows an optimizer update; nothing by default."""
