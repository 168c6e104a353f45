"""Training images as a policy stored them, beside the untouched images of the other splits."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from tokexp.data.base import ImageSource
from tokexp.data.decoding import Resize, decode
from tokexp.errors import DataError
from tokexp.spec.data import DataSpec, GivenTokens
from tokexp.storage.image_store import ImageStore

TRAIN = "train.images"
"""The file of the stored training images in the output of an images stage."""


class StoredImages(ImageSource):
    """A source whose training images come from an image store; tests read the images as they are.

    A stored image is brought to the data's size and channels as its file would be.
    """

    def __init__(self, data: DataSpec, source: ImageSource, folder: Path) -> None:
        """Take the data, its source, and the output of an images stage."""
        if isinstance(data, GivenTokens):
            raise DataError("released tokens come without images")
        self._source, self._store = source, ImageStore.open(folder / TRAIN)
        self._channels, self._size, _ = data.image_shape()
        self._resize: Resize = getattr(data, "resize", "squash")
        if self._store.header.classes != len(source.classes):
            raise DataError(f"the stored images have {self._store.header.classes} classes, not those of the data")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._source.classes

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that exist."""
        return self._source.splits

    @property
    def soft_labels(self) -> np.ndarray | None:
        """Shares (N, classes) float32 that the training images are learned from, None where classes are."""
        return self._store.soft_labels

    def labels(self, split: str) -> np.ndarray:
        """Return the int64 labels (N,) of a split."""
        return self._store.labels if split == "train" else self._source.labels(split)

    def sample_ids(self, split: str) -> list[str]:
        """Return one name per image; stored training images are numbered."""
        if split == "train":
            return [f"stored/{position:07d}" for position in range(self._store.num_images)]
        return self._source.sample_ids(split)

    def read(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        """Return float32 images (n, C, H, W) in [0, 1]. Raises DamagedError for a store that is not as written."""
        if split != "train":
            return self._source.read(split, positions)
        if self._store.header.encoding == "raw":
            return torch.from_numpy(np.stack([self._store.numbers(position) for position in positions]))
        pixels = np.stack([self._decode(position) for position in positions])
        return torch.from_numpy(pixels).float().div_(255)

    def _decode(self, position: int) -> np.ndarray:
        name = f"stored image {position}"
        return decode(io.BytesIO(self._store.item(position)), name, self._channels, self._size, self._resize)
