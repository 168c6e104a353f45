"""What an evaluation does: it changes the test images, or it measures something of the model; accuracies of all."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.models.base import Backbone
from tokexp.objectives.base import Objective
from tokexp.spec.patch_predictions import SpatialInconsistency
from tokexp.spec.train import TrainSpec


class PixelChange(ABC):
    """A change of test images before they are tokenised; it may not depend on the order or number of images."""

    @abstractmethod
    def __call__(self, images: Tensor, positions: list[int]) -> Tensor:
        """Return changed images (n, C, H, W) in [0, 1]; `positions` number them within the split."""


@dataclass(frozen=True)
class Grouped:
    """Tokens of images in groups. rows: (B, groups, d) float32. labels: (B, N) int64, the group of every patch."""

    rows: Tensor
    labels: Tensor


class PatchTokens(Protocol):
    """What an encoder makes of the patches of images, as they are and morphed.

    grid: (rows, columns) of patches. width: of a token. settings: 1 and the number of granularities.
    """

    grid: tuple[int, int]
    width: int
    settings: int

    def __call__(self, values: Tensor) -> list[Grouped]:
        """Return the tokens of values (B, C, H, W) without morphing, then of every granularity; without gradient."""


class Measured(Protocol):
    """What the stage offers a measure: a trained model in eval mode without gradients, and the images."""

    backbone: Backbone
    token_input: nn.Module

    def batches(self, split: str) -> Iterator[Batch]:
        """Yield the images of a split as the model reads them, unchanged."""

    def fit(self, objective: Objective, train: TrainSpec, seed: int) -> dict[str, float]:
        """Train an objective on the unchanged training images; return its last metrics."""

    def patch_tokens(self, spec: SpatialInconsistency) -> PatchTokens:
        """Return what the spec's encoder, or this model's own, makes of patches."""

    def keep(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Leave arrays beside the result as `name`.npz."""


class Measure(ABC):
    """A number about a trained model that is no accuracy on images."""

    @abstractmethod
    def measure(self, model: Measured) -> dict[str, float]:
        """Return what was measured, by name."""


def top_k(logits: Tensor, k: int = 5) -> tuple[Tensor, Tensor]:
    """Return the k best classes (n, k) and their probabilities (n, k); k shrinks to the number of classes."""
    probabilities = logits.float().softmax(-1)
    best = probabilities.topk(min(k, logits.shape[-1]), dim=-1)
    return best.indices, best.values


def accuracies(best: Tensor, labels: Tensor) -> dict[str, float]:
    """Return top1, top5 and the mean of per-class accuracies as fractions, from best classes (n, k)."""
    right = best == labels[:, None]
    first = right[:, 0].double()
    classes = labels.unique()
    per_class = torch.stack([first[labels == label].mean() for label in classes]) if len(classes) else first
    return {
        "top1": float(first.mean()),
        "top5": float(right.any(1).double().mean()),
        "mean_class_top1": float(per_class.mean()),
    }
