"""What every downstream task is, and what it may ask of the stage that trains it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from tokexp.models.base import Backbone
from tokexp.objectives.base import Objective
from tokexp.spec.tasks import Validation
from tokexp.spec.train import TrainSpec


@dataclass(frozen=True)
class TaskContext:
    """What tasks are built with. token_input: what makes embeddings of the values a batch holds."""

    backbone: Backbone
    token_input: nn.Module
    num_classes: int


class Trainer(Protocol):
    """What a stage offers a task while it trains."""

    seed: int

    def fit(self, objective: Objective, train: TrainSpec, validation: Validation | None) -> dict[str, float]:
        """Train an objective on the training images with the phase's policy; return its last metrics.

        With `validation`, a share of the images is held out, and the task's `logits` are measured on it meanwhile.
        """

    def features(self, extract: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return features (N, D) and labels (N,) of the unaugmented training images, without gradients."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """Note how much is done."""


class DownstreamTask(nn.Module, ABC):
    """A model for a task: its parameters, how it is trained, and what it answers."""

    @abstractmethod
    def train_with(self, trainer: Trainer) -> dict[str, float]:
        """Train, and return what is worth reporting."""

    @abstractmethod
    def logits(self, values: Tensor) -> Tensor:
        """Return (B, classes) float32 scores for embeddings or pixels (B, C, H, W) on the model's grid."""
