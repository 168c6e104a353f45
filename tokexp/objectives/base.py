"""What every objective is: a module that turns a batch into a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tokexp.data.base import Batch
    from tokexp.models.base import Backbone
    from tokexp.objectives.targets.base import Target
    from tokexp.tokenizers.base import Codebook


@dataclass
class StepOutput:
    """A step's scalar `loss` (with gradient) and detached scalar `metrics` by name."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectiveContext:
    """What objectives are built with: the backbone to train, what embeds its tokens, the classes and the codes.

    target_codes: the number of codes of the tokens that come beside pixels, None where none do.
    target: the frozen network whose tokens are learned from, on the device; None where there is none.
    """

    backbone: Backbone
    token_input: nn.Module
    num_classes: int
    codebook: Codebook | None = None
    target_codes: int | None = None
    target: Target | None = None


class Objective(nn.Module, ABC):
    """Holds the backbone and everything else that this phase trains.

    `forward` is what data-parallel training wraps. The engine seeds the global generator for dropout before every
    step; draws of the method itself (masks) come from `generator`, on the batch's device.

    A generator cannot be traced. So a `forward` that draws is `@torch.compiler.disable(recursive=False)`d, as is what
    draws in it (with all below it), and `draws` is true: then what it calls is compiled, part by part.
    """

    draws: ClassVar[bool] = False

    @abstractmethod
    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return loss and metrics of a micro-batch."""

    def after_step(self) -> None:
        """Do what follows an optimizer update (moving averages of targets); nothing by default."""

    def undecayed(self) -> set[str]:
        """Return names of parameters without weight decay, beside those of one dimension."""
        return set()

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return parameters from input to output for layer decay; one group if the method has no order."""
        return [list(self.parameters())]
