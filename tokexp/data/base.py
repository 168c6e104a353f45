"""What every source of data gives: images by split and position, labels, stable sample ids; and a training batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import torch


class ImageSource(ABC):
    """Labelled images of one data spec, in splits `train`, `test` and, where asked for, `select`.

    The order within a split is deterministic and the same on every machine.
    """

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is a position in this tuple."""

    @abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """Return the int64 labels (N,) of a split. Raises KeyError for a split that does not exist."""

    @abstractmethod
    def sample_ids(self, split: str) -> list[str]:
        """Return one stable, unique name per image of a split, in its order."""

    @abstractmethod
    def read(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        """Return float32 images (n, C, H, W) in [0, 1] at these positions, already at the spec's size."""

    def file(self, split: str, position: int) -> bytes | None:
        """Return the bytes of an image's file as it lies on disk, None for sources that are no files."""
        del split, position
        return None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that exist."""
        return ("train", "test")


class DividedSource(ImageSource):
    """A source that holds the labels of all its images, and the positions of every split among them."""

    _labels: np.ndarray
    _positions: dict[str, np.ndarray]

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that exist."""
        return tuple(self._positions)

    def labels(self, split: str) -> np.ndarray:
        """Return the int64 labels (N,) of a split."""
        labels: np.ndarray = self._labels[self._positions[split]]
        return labels


@dataclass(frozen=True)
class GivenCodes:
    """The codebook of tokens that were given: float32 (K, d), and what a store notes of it.

    metric: how a vector finds its nearest code. implicit: the codes follow from `facts`. facts: JSON-ready.
    """

    vectors: np.ndarray
    metric: str = "euclidean"
    implicit: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


class TokenSource(ABC):
    """Labelled tokens that were made elsewhere and come without pixels, in splits as those of `ImageSource`."""

    grid: tuple[int, int]
    codebook: GivenCodes
    classes: tuple[str, ...]
    splits: tuple[str, ...]

    @abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """Return the int64 labels (N,) of a split."""

    @abstractmethod
    def sample_ids(self, split: str) -> list[str]:
        """Return one stable, unique name per image of a split, in its order."""

    @abstractmethod
    def blocks(self, split: str) -> Iterator[np.ndarray]:
        """Yield the uint16 tokens (n, rows, columns) of a split, some images at a time, in their order.

        Raises DataError or DamagedError for tokens that are not as they were written.
        """


@dataclass(frozen=True)
class Batch:
    """What a training step works on. Exactly one of `indices`, `values` is the current content.

    indices: (B, H, W) int64 tokens, before lookup; (B, C, H, W) levels where tokens are coefficients.
    values: (B, C, H, W) float32 embeddings or pixels.
    labels: (B,) int64 class of each image. targets: (B, classes) float32 soft targets once samples were mixed.
    target_indices: (B, rows, columns) int64 tokens that an objective predicts, beside pixels.
    other_view: (B, C, H, W) float32, values that were augmented another time, for objectives that compare views.
    """

    labels: torch.Tensor
    num_classes: int
    indices: torch.Tensor | None = None
    values: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    target_indices: torch.Tensor | None = None
    other_view: torch.Tensor | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)

    def with_values(self, values: torch.Tensor) -> Batch:
        """Return the batch with embeddings (or pixels) as its content."""
        return replace(self, values=values, indices=None)

    def part(self, start: int, stop: int) -> Batch:
        """Return the samples from `start` to before `stop`."""
        cut = {name: getattr(self, name) for name in ("indices", "values", "targets", "target_indices")}
        return Batch(
            self.labels[start:stop],
            self.num_classes,
            **{name: None if item is None else item[start:stop] for name, item in cut.items()},
        )

    def soft_targets(self) -> torch.Tensor:
        """Return (B, classes) float32 targets: the mixed ones, or one-hot labels."""
        from torch.nn.functional import one_hot

        return one_hot(self.labels, self.num_classes).float() if self.targets is None else self.targets


def join(parts: Sequence[Batch]) -> Batch:
    """Concatenate batches of values; targets become soft where any part's are."""
    import torch

    soft = any(part.targets is not None for part in parts)
    values = [part.values for part in parts if part.values is not None]
    beside = [part.target_indices for part in parts if part.target_indices is not None]
    if len(values) != len(parts):
        raise ValueError("only batches after lookup can be joined")
    return Batch(
        labels=torch.cat([part.labels for part in parts]),
        num_classes=parts[0].num_classes,
        values=torch.cat(values),
        targets=torch.cat([part.soft_targets() for part in parts]) if soft else None,
        target_indices=torch.cat(beside) if len(beside) == len(parts) else None,
    )
