"""Classification sets that torchvision reads by name.

Source: torchvision.datasets. Where a set has a validation part it belongs to the training images; EuroSAT has no test
split, so a fifth of it is held out. Decoding is torchvision's own (Pillow); resizing as in `decoding.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tokexp.data.base import DividedSource
from tokexp.data.decoding import fit, to_channels
from tokexp.data.splits import divide
from tokexp.data.torchvision_sets import SETS, TEST_FRACTION, Arguments, missing_message
from tokexp.errors import DataError
from tokexp.spec.data import TorchvisionData
from tokexp.torchvision_ops import ensure_torchvision


class TorchvisionImages(DividedSource):
    """A set of torchvision. Sample ids are the set, the part and the place in it: `CIFAR10/train/00042`."""

    def __init__(self, spec: TorchvisionData) -> None:
        """Open the set, fetching it if the spec says so. Raises DataError with what to do if it is not there."""
        known = SETS[spec.name]
        held_out = known.test_parts or ()
        parts = [_open(spec, arguments) for arguments in (*known.train_parts, *held_out)]
        labels = [_labels(part) for part in parts]
        names = [*("train" for _ in known.train_parts), *("test" for _ in held_out)]
        self._spec, self._parts = spec, parts
        self._starts = np.cumsum([0, *map(len, labels)])
        self._labels = np.concatenate(labels)
        self._classes = _class_names(parts[0], int(self._labels.max()) + 1)
        cut = int(self._starts[len(known.train_parts)])
        self._ids = [f"{spec.name}/{name}/" for name in names]
        everything = np.arange(len(self._labels))
        self._positions = divide(
            self._labels, everything[:cut], everything[cut:] if held_out else None,
            test_fraction=TEST_FRACTION, select_fraction=spec.select_fraction, seed=spec.split_seed,
        )  # fmt: skip
        self._first = [0 if name == "train" else cut for name in names]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, as torchvision gives them; numbers where it gives none."""
        return self._classes

    def sample_ids(self, split: str) -> list[str]:
        """Return one name per image."""
        return [self._sample_id(int(position)) for position in self._positions[split]]

    def read(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        """Return float32 images (n, C, H, W) in [0, 1]. Raises DataError naming an image that cannot be read."""
        wanted = self._positions[split][np.asarray(positions, dtype=np.int64)]
        channels, size, _ = self._spec.image_shape()
        pixels = np.empty((len(wanted), channels, size, size), dtype=np.uint8)
        for row, position in enumerate(wanted.tolist()):
            part = self._part_of(position)
            try:
                image = self._parts[part][position - int(self._starts[part])][0]
            except (OSError, ValueError, SyntaxError) as error:
                raise DataError(
                    f"{self._sample_id(position)!r} in {self._spec.root!r} cannot be read: {error}; fetch it again"
                ) from error
            pixels[row] = fit(to_channels(image, channels), size, self._spec.resize)
        return torch.from_numpy(pixels).float().div_(255)

    def _part_of(self, position: int) -> int:
        return int(np.searchsorted(self._starts, position, side="right")) - 1

    def _sample_id(self, position: int) -> str:
        part = self._part_of(position)
        return f"{self._ids[part]}{position - self._first[part]:05d}"


def _open(spec: TorchvisionData, arguments: Arguments) -> Any:
    ensure_torchvision()
    from torchvision import datasets

    try:
        return getattr(datasets, spec.name)(root=spec.root, download=spec.download, **arguments)
    except (RuntimeError, OSError, ValueError) as error:
        if spec.download:
            raise DataError(
                f"data.download: the set {spec.name} could not be fetched to {spec.root!r} ({error}); try again on a "
                "machine with network access, or copy the set there"
            ) from error
        raise DataError(f"{missing_message(spec)} ({error})") from error


def _labels(part: Any) -> np.ndarray:
    """Return the labels without decoding an image: torchvision's sets keep them under several names."""
    for name in ("targets", "labels", "_labels"):
        if hasattr(part, name):
            return np.asarray(getattr(part, name), dtype=np.int64)
    if hasattr(part, "_samples"):
        return np.array([sample[1] for sample in part._samples], dtype=np.int64)
    return np.array([part[place][1] for place in range(len(part))], dtype=np.int64)


def _class_names(part: Any, count: int) -> tuple[str, ...]:
    names = tuple(map(str, getattr(part, "classes", ())))
    return names if len(names) >= count else tuple(map(str, range(count)))


def build(spec: TorchvisionData) -> TorchvisionImages:
    """Return the source for a spec."""
    return TorchvisionImages(spec)
