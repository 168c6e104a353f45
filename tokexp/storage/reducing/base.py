"""What every policy gets and gives: the training images one by one, and the images to store, encoded one by one."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tokexp.spec.storage import StorageSpec
from tokexp.storage.budget import keep_order
from tokexp.storage.image_store import ImageHeader, account

if TYPE_CHECKING:
    from PIL import Image


class Training(Protocol):
    """The training images as a policy may ask for them."""

    labels: np.ndarray
    """Classes (N,) int64."""
    classes: tuple[str, ...]
    ids: Sequence[str]
    """One stable name for each image."""
    shape: tuple[int, int, int]
    """Channels, height and width that models read."""

    def file(self, position: int) -> bytes | None:
        """Return the bytes of an image's file, None where the data are no files."""

    def image(self, position: int) -> Image.Image:
        """Return an image at the size of its file, grey or RGB as models read it."""

    def lengths(self, encode: Callable[[int], bytes], positions: np.ndarray, doing: str) -> np.ndarray:
        """Return the length (n,) of what `encode` makes of every position; keeps nothing, and notes how far it is."""


@dataclass(frozen=True)
class Reduced:
    """What is to be stored: a header, labels (n,), and the encoded bytes of every image, one after another.

    positions: which training images they are, ascending; None for images that are none of these. parameter: the
    policy's parameter by name, as it was given or solved for.
    """

    header: ImageHeader
    labels: np.ndarray
    items: Iterator[bytes]
    positions: np.ndarray | None = None
    soft: np.ndarray | None = None
    parameter: dict[str, float] = field(default_factory=dict)


class Reduction(ABC):
    """A policy: what is stored of the training images."""

    @abstractmethod
    def reduce(self, training: Training, storage: StorageSpec) -> Reduced:
        """Return what is to be stored. Raises InputError where a budget holds nothing, or a file is wrong."""


def byte_limit(storage: StorageSpec, num_images: int) -> float | None:
    """Return the most bytes that a budget allows for a source of so many images, None without a budget."""
    budget = storage.budget
    return None if budget is None else budget.bytes * (num_images if budget.per == "image" else 1)


def kept_positions(training: Training, storage: StorageSpec) -> np.ndarray:
    """Return the ascending positions that `storage.fraction` keeps: class-balanced, as for tokens; all without it."""
    everything = len(training.labels)
    if storage.fraction is None:
        return np.arange(everything)
    count = max(1, round(storage.fraction * everything))
    return np.sort(keep_order(training.labels, storage.seed)[:count])


def header_of(training: Training, count: int, facts: dict[str, float | str]) -> ImageHeader:
    """Return the header of a store of `count` image files."""
    return ImageHeader(images=count, classes=len(training.classes), facts=facts)


def stored(training: Training, positions: np.ndarray, encode: Callable[[int], bytes], facts: dict[str, float | str],
           parameter: dict[str, float]) -> Reduced:  # fmt: skip
    """Return the images at ascending positions, each encoded by `encode`."""
    items = (encode(position) for position in positions.tolist())
    header = header_of(training, len(positions), facts)
    return Reduced(header, training.labels[positions], items, positions, parameter=parameter)


def measured(training: Training, positions: np.ndarray, encode: Callable[[int], bytes], facts: dict[str, float | str],
             doing: str) -> int:  # fmt: skip
    """Return the bytes of the file that `stored` would become, everything counted."""
    lengths = training.lengths(encode, positions, doing)
    return account(header_of(training, len(positions), facts), lengths).total


def lossless(training: Training, position: int) -> bytes:
    """Return an image's own file, or a PNG of its pixels where there is none."""
    return training.file(position) or png(training.image(position))


def png(image: Image.Image) -> bytes:
    """Return the smallest PNG that Pillow makes of an image."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def jpeg(image: Image.Image, quality: int, subsampling: str) -> bytes:
    """Return an image as a baseline JPEG with Huffman tables of its own."""
    buffer = io.BytesIO()
    # Grey images have no colour planes to be subsampled; Pillow takes the option only for the others.
    planes = {} if image.mode == "L" else {"subsampling": subsampling}
    image.save(buffer, "JPEG", quality=quality, optimize=True, **planes)
    return buffer.getvalue()
