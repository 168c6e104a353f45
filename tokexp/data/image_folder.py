"""A tree of images with one folder per class, or a zip of one, read in place.

Layouts: see `layouts.py`. If there are both a validation and a test folder, the test folder is the `test` split and the
validation folder is not used (`data.test` names another); a `select` split is always cut from the training images.
Classes are the sorted folder names of the training split, as torchvision's ImageFolder numbers them.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
import torch

from tokexp.data.base import DividedSource
from tokexp.data.decoding import decode
from tokexp.data.layouts import ImageFile, Layout, find_layout
from tokexp.data.splits import divide
from tokexp.errors import DataError
from tokexp.spec.data import ImageFolderData

Result = TypeVar("Result")

_THREADED_FROM = 64
_MOST_THREADS = 4
_CHUNK = 4096


class ImageFolder(DividedSource):
    """Images decoded when they are asked for. Sample ids are paths below the folder that holds the splits.

    skipped: paths of the images that cannot be read, with `corrupt: skip`; every image is then decoded once to find
    them. Splits are cut before, so they do not depend on it.
    """

    def __init__(self, spec: ImageFolderData) -> None:
        """List the files. Raises DataError where the root does not hold a labelled set."""
        layout = find_layout(spec)
        entries = layout.train + (layout.test or [])
        train = np.arange(len(layout.train))
        test = None if layout.test is None else np.arange(len(layout.train), len(entries))
        self._spec, self._classes = spec, layout.classes
        self._files = [file for file, _ in entries]
        self._labels = np.array([label for _, label in entries], dtype=np.int64)
        self._opener = _Opener(layout)
        self._threads = max(1, min(_MOST_THREADS, os.cpu_count() or 1))
        self._positions = divide(
            self._labels, train, test,
            test_fraction=spec.test_fraction, select_fraction=spec.select_fraction, seed=spec.split_seed,
        )  # fmt: skip
        self.skipped = self._skip_unreadable() if spec.corrupt == "skip" else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: the folders of the training split."""
        return self._classes

    def sample_ids(self, split: str) -> list[str]:
        """Return one path per image."""
        return [self._files[position].path for position in self._positions[split]]

    def read(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        """Return float32 images (n, channels, size, size) in [0, 1]. Raises DataError naming an unreadable one."""
        wanted = self._positions[split][np.asarray(positions, dtype=np.int64)]
        pixels = np.empty((len(wanted), *self._spec.image_shape()), dtype=np.uint8)
        for row, image in enumerate(self._each(self._decode, wanted)):
            pixels[row] = image
        return torch.from_numpy(pixels).float().div_(255)

    def _decode(self, position: int) -> np.ndarray:
        file, spec = self._files[position], self._spec
        content, name = self._opener.content(file)
        return decode(io.BytesIO(content), name, spec.channels, spec.image_size, spec.resize)

    def _is_readable(self, position: int) -> bool:
        try:
            self._decode(position)
        except DataError:
            return False
        return True

    def _each(self, work: Callable[[int], Result], positions: np.ndarray) -> Iterator[Result]:
        """Yield what `work` makes of every position, in their order; in threads where that pays."""
        if len(positions) < _THREADED_FROM or self._threads == 1:
            yield from map(work, positions.tolist())
            return
        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, len(positions), _CHUNK):
                yield from pool.map(work, positions[start : start + _CHUNK].tolist())

    def _skip_unreadable(self) -> tuple[str, ...]:
        every = np.arange(len(self._files))
        readable = np.fromiter(self._each(self._is_readable, every), dtype=bool, count=len(every))
        self._positions = {name: kept[readable[kept]] for name, kept in self._positions.items()}
        if not len(self._positions["train"]):
            raise DataError(f"data.root: {self._spec.root!r} has no training image that can be read")
        return tuple(self._files[position].path for position in every[~readable].tolist())


class _Opener:
    """Gives the bytes of files in a tree or in a zip; a zip stays open, and its threads take turns."""

    def __init__(self, layout: Layout) -> None:
        self._root = layout.root
        self._archive = zipfile.ZipFile(layout.root) if layout.zipped else None
        self._turn = Lock()

    def content(self, file: ImageFile) -> tuple[bytes, str]:
        """Return the bytes, and the name for messages."""
        name = str(self._root / file.name)
        try:
            if self._archive is None:
                return Path(name).read_bytes(), name
            with self._turn:
                return self._archive.read(file.name), name
        except (OSError, RuntimeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(
                f"{name!r}: this image cannot be read ({error}); repair or remove it, or set data.corrupt: skip"
            ) from error


def build(spec: ImageFolderData) -> ImageFolder:
    """Return the source for a spec."""
    return ImageFolder(spec)
