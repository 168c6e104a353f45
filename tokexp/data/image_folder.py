"""A tree of images with one folder per class, or a zip of one, read in place.

Layouts: see `layouts.py`. If there are both a validation and a test folder, the test folder is the `test` split and the
validation folder is not used (`data.test` names another); a `select` split is always cut from the training images.
Classes are the sorted folder names of the training split, as torchvision's ImageFolder numbers them.
"""

from __future__ import annotations

import io
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
from tokexp.data.readability import Looked, UnreadableError, further, unreadable
from tokexp.data.splits import divide
from tokexp.errors import DataError
from tokexp.spec.data import ImageFolderData

Result = TypeVar("Result")

_THREADED_FROM = 64
_CHUNK = 4096


class ImageFolder(DividedSource):
    """Images decoded when they are asked for. Sample ids are paths below the folder that holds the splits.

    skipped: paths of the images that cannot be read, and why, with `corrupt: skip`; every image is then decoded once
    to find them. Splits are cut before, so they do not depend on it. As many threads read as torch computes with.
    """

    def __init__(self, spec: ImageFolderData, note: Path | None = None, looked: Looked | None = None) -> None:
        """List the files. Raises DataError where the root does not hold a labelled set.

        note: a file that keeps which images cannot be read. looked: told how far the search for them is.
        """
        layout = find_layout(spec)
        entries = layout.train + (layout.test or [])
        train = np.arange(len(layout.train))
        test = None if layout.test is None else np.arange(len(layout.train), len(entries))
        self._spec, self._classes = spec, layout.classes
        self._files = [file for file, _ in entries]
        self._labels = np.array([label for _, label in entries], dtype=np.int64)
        self._opener = _Opener(layout)
        self._threads = max(1, torch.get_num_threads())
        self._positions = divide(
            self._labels, train, test,
            test_fraction=spec.test_fraction, select_fraction=spec.select_fraction, seed=spec.split_seed,
        )  # fmt: skip
        self.skipped = self._skip_unreadable(note, looked) if spec.corrupt == "skip" else {}

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes: the folders of the training split."""
        return self._classes

    def sample_ids(self, split: str) -> list[str]:
        """Return one path per image."""
        return [self._files[position].path for position in self._positions[split]]

    def read(self, split: str, positions: Sequence[int]) -> torch.Tensor:
        """Return float32 images (n, channels, size, size) in [0, 1]. Raises DataError naming unreadable ones."""
        wanted = self._positions[split][np.asarray(positions, dtype=np.int64)]
        pixels = np.empty((len(wanted), *self._spec.image_shape()), dtype=np.uint8)
        try:
            for row, image in enumerate(self._each(self._decode, wanted)):
                pixels[row] = image
        except UnreadableError as error:
            every = [self._opener.name(file) for file in self._files]
            raise further(error, every, self._reasons) from error
        return torch.from_numpy(pixels).float().div_(255)

    def file(self, split: str, position: int) -> bytes:
        """Return the bytes of an image's file. Raises DataError if it cannot be read."""
        return self._opener.content(self._files[int(self._positions[split][position])])[0]

    def _decode(self, position: int) -> np.ndarray:
        file, spec = self._files[position], self._spec
        content, name = self._opener.content(file)
        return decode(io.BytesIO(content), name, spec.channels, spec.image_size, spec.resize)

    def _reason(self, position: int) -> str | None:
        try:
            self._decode(position)
        except UnreadableError as error:
            return error.reason
        return None

    def _reasons(self, positions: Sequence[int]) -> Iterator[str | None]:
        return self._each(self._reason, np.asarray(positions))

    def _each(self, work: Callable[[int], Result], positions: np.ndarray) -> Iterator[Result]:
        """Yield what `work` makes of every position, in their order; in threads where that pays."""
        if len(positions) < _THREADED_FROM or self._threads == 1:
            yield from map(work, positions.tolist())
            return
        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, len(positions), _CHUNK):
                yield from pool.map(work, positions[start : start + _CHUNK].tolist())

    def _skip_unreadable(self, note: Path | None, looked: Looked | None) -> dict[str, str]:
        found = unreadable(len(self._files), self._reasons, note, looked)
        readable = np.ones(len(self._files), dtype=bool)
        readable[list(found)] = False
        self._positions = {name: kept[readable[kept]] for name, kept in self._positions.items()}
        if not len(self._positions["train"]):
            raise DataError(f"data.root: {self._spec.root!r} has no training image that can be read")
        return {self._files[position].path: reason for position, reason in sorted(found.items())}


class _Opener:
    """Gives the bytes of files in a tree or in a zip; a zip stays open, and its threads take turns."""

    def __init__(self, layout: Layout) -> None:
        self._root = layout.root
        self._archive = zipfile.ZipFile(layout.root) if layout.zipped else None
        self._turn = Lock()

    def name(self, file: ImageFile) -> str:
        """Return what messages call a file."""
        return str(self._root / file.name)

    def content(self, file: ImageFile) -> tuple[bytes, str]:
        """Return the bytes, and the name for messages."""
        name = self.name(file)
        try:
            if self._archive is None:
                return Path(name).read_bytes(), name
            with self._turn:
                return self._archive.read(file.name), name
        except (OSError, RuntimeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UnreadableError(name, reason) from error


def build(spec: ImageFolderData, note: Path | None = None, looked: Looked | None = None) -> ImageFolder:
    """Return the source for a spec; see `ImageFolder`."""
    return ImageFolder(spec, note, looked)
