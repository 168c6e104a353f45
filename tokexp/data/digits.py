"""scikit-learn's digits: 1,797 grey images of 8 x 8 pixels, 10 classes, inside the package.

Source: Alpaydin and Kaynak 1998 (optical recognition of handwritten digits), the test part as scikit-learn ships it.
Pixels are counts 0..16 in the file and are divided by 16.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tokexp.data.base import DividedSource
from tokexp.data.splits import divide
from tokexp.spec.data import DigitsData


class Digits(DividedSource):
    """All digits in memory. Sample ids are `digits/0000` to `digits/1796`, by place in scikit-learn's file."""

    def __init__(self, spec: DigitsData) -> None:
        """Read the images and divide them; 30 % held out gives 1,257 training and 540 test images."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        self._images = torch.from_numpy(bunch.images.astype(np.float32) / 16).unsqueeze(1)
        self._labels: np.ndarray = bunch.target.astype(np.int64)
        self._positions = divide(
            self._labels, np.arange(len(self._labels)), None,
            test_fraction=spec.test_fraction, select_fraction=spec.select_fraction, seed=spec.split_seed,
        )  # fmt: skip

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: the digits."""
        return tuple(str(digit) for digit in range(10))

    def sample_ids(self, split: str) -> list[str]:
        """Return one name per image."""
        return [f"digits/{position:04d}" for position in self._positions[split]]

    def read(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        """Return float32 images (n, 1, 8, 8) in [0, 1]."""
        return self._images[torch.from_numpy(self._positions[split][np.asarray(positions, dtype=np.int64)])]


def build(spec: DigitsData) -> Digits:
    """Return the source for a spec."""
    return Digits(spec)
