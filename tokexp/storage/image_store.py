"""The image store: encoded training images, their labels and soft labels in one file, every byte counted.

What `storage.reduce` leaves of the images is written here once, and training reads it. The file's form is
`tokexp.storage.container`, that of its blocks `tokexp.storage.image_blocks`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokexp.errors import DamagedError, InputError
from tokexp.sections import IMAGES
from tokexp.storage.bits import pack, packed_size, unpack, width_of
from tokexp.storage.container import Container, fixed_size, read_container, write_container
from tokexp.storage.image_blocks import IMAGES_PER_BLOCK, block_places, join_block, table_size

_LABELS, _SOFT, _BLOCKS = 0, 1, 2


class ImageHeader(BaseModel):
    """What an image store says about itself. Fields at their default are left out of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    images: int = Field(ge=0, description="Images in the store.")
    classes: int = Field(ge=1, le=65_536, description="Number of classes.")
    encoding: Literal["image", "raw"] = Field("image", description="Files such as PNG and JPEG, or bare numbers.")
    shape: tuple[int, int, int] | None = Field(None, description="Channels, height and width of bare numbers.")
    dtype: Literal["float16", "float32"] | None = Field(None, description="Type of bare numbers, little-endian.")
    soft: Literal["float16", "float32"] | None = Field(None, description="Type of the soft labels, if there are any.")
    facts: dict[str, Any] = Field(default_factory=dict, description="What else the writer wanted to keep.")

    @property
    def num_blocks(self) -> int:
        """Return the number of blocks."""
        return -(-self.images // IMAGES_PER_BLOCK)

    def to_bytes(self) -> bytes:
        """Return the JSON text, UTF-8."""
        return self.model_dump_json(exclude_defaults=True).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "ImageHeader":
        """Return the header that `to_bytes` wrote. Raises DamagedError for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise DamagedError("the header of the store of images cannot be read; restore the file") from error


@dataclass(frozen=True)
class ImageAccounting:
    """Bytes of an image store by what they hold, and the number of images in it; their sum is the file's size.

    pixels: the encoded images. index: where blocks and images begin, with their digests.
    """

    pixels: int
    index: int
    labels: int
    soft_labels: int
    header: int
    images: int

    @property
    def total(self) -> int:
        """Return the size of the file in bytes."""
        return self.pixels + self.index + self.labels + self.soft_labels + self.header

    @property
    def bytes_per_image(self) -> float:
        """Return the bytes of the file over its images; the file's size if it holds none."""
        return self.total / max(1, self.images)

    def as_dict(self) -> dict[str, float]:
        """Return all parts, `total` and `bytes_per_image`, JSON-ready."""
        return {**asdict(self), "total": self.total, "bytes_per_image": self.bytes_per_image}


def account(header: ImageHeader, lengths: np.ndarray) -> ImageAccounting:
    """Return what a store with this header and images of these lengths (N,) in bytes would take, without writing it."""
    described, index = fixed_size(len(header.to_bytes()), _BLOCKS + header.num_blocks)
    tables = sum(
        table_size(lengths[start : start + IMAGES_PER_BLOCK]) for start in range(0, len(lengths), IMAGES_PER_BLOCK)
    )
    return ImageAccounting(
        pixels=int(lengths.sum()), index=index + tables,
        labels=packed_size(header.images, width_of(header.classes)), soft_labels=_soft_size(header),
        header=described, images=header.images,
    )  # fmt: skip


def write_images(
    path: Path, header: ImageHeader, labels: np.ndarray, items: Iterable[bytes], soft: np.ndarray | None = None
) -> ImageAccounting:
    """Write a new file: labels (N,), encoded images, soft labels (N, classes); return what its bytes are for.

    Images may come from a generator; one block of them is in memory at a time. Raises InputError for labels that do
    not fit; no file is left then.
    """
    if len(labels) != header.images or (header.images and not 0 <= int(labels.min()) <= int(labels.max())):
        raise InputError(f"{header.images} images need as many whole labels, given {len(labels)}")
    if header.images and int(labels.max()) >= header.classes:
        raise InputError(f"labels from 0 to {header.classes - 1} are needed, given up to {int(labels.max())}")
    if (soft is None) != (header.soft is None) or (soft is not None and soft.shape != (header.images, header.classes)):
        raise InputError(f"soft labels of {header.images} images and {header.classes} classes are needed")
    softened = b"" if soft is None else soft.astype(_little(header.soft)).tobytes()
    before = [pack(labels, width_of(header.classes)), softened]
    write_container(path, header.to_bytes(), _sections(before, iter(items)), _BLOCKS + header.num_blocks, IMAGES)
    return ImageStore.open(path).accounting


def _sections(before: list[bytes], items: Iterator[bytes]) -> Iterator[bytes]:
    yield from before
    while block := list(islice(items, IMAGES_PER_BLOCK)):
        yield join_block(block)


class ImageStore:
    """An opened image store. `labels` is int64 (N,), `soft_labels` float32 (N, classes) or None."""

    def __init__(self, container: Container, header: ImageHeader) -> None:
        """Read labels and soft labels; use `ImageStore.open`."""
        self._container, self.header = container, header
        if len(container.sections) != _BLOCKS + header.num_blocks:
            raise DamagedError(f"{container.path} lacks blocks: restore it, or make it again")
        self.labels: np.ndarray = unpack(
            container.read(_LABELS), header.images, width_of(header.classes)
        ).astype(np.int64)  # fmt: skip
        if len(self.labels) and int(self.labels.max()) >= header.classes:
            raise DamagedError(f"{container.path} has labels beyond its classes: restore it, or make it again")
        self.soft_labels = self._read_soft()
        self._places: dict[int, np.ndarray] = {}

    @classmethod
    def open(cls, path: Path) -> "ImageStore":
        """Open a file and check all of it but the images, which are checked when they are read.

        Raises InputError for a file that is missing, no image store, or too new; DamagedError for a damaged one.
        """
        container = read_container(path, IMAGES)
        return cls(container, ImageHeader.from_bytes(container.header))

    @property
    def num_images(self) -> int:
        """Return the number of images."""
        return self.header.images

    @property
    def accounting(self) -> ImageAccounting:
        """Return what every byte of the file is for. Raises DamagedError if a block is damaged."""
        sections = self._container.sections
        tables = sum(int(self._table(number)[0]) for number in range(self.header.num_blocks))
        return ImageAccounting(
            pixels=sum(section.length for section in sections[_BLOCKS:]) - tables,
            index=self._container.index_bytes + tables,
            labels=sections[_LABELS].length, soft_labels=sections[_SOFT].length,
            header=self._container.header_bytes, images=self.num_images,
        )  # fmt: skip

    def lengths(self) -> np.ndarray:
        """Return the bytes (N,) of every image, int64. Raises DamagedError if a block is damaged."""
        tables = [np.diff(self._table(number)) for number in range(self.header.num_blocks)]
        return np.concatenate([np.empty(0, np.int64), *tables]).astype(np.int64)

    def item(self, position: int) -> bytes:
        """Return the encoded bytes of one image. Raises IndexError and DamagedError."""
        if not 0 <= position < self.num_images:
            raise IndexError(f"there is no image {position}; the store has {self.num_images}")
        number, place = divmod(position, IMAGES_PER_BLOCK)
        places = self._table(number)
        return self._container.read(_BLOCKS + number)[places[place] : places[place + 1]].tobytes()

    def numbers(self, position: int) -> np.ndarray:
        """Return the float32 pixels (C, H, W) of an image that is stored as bare numbers."""
        header = self.header
        assert header.dtype is not None
        assert header.shape is not None
        flat = np.frombuffer(self.item(position), _little(header.dtype))
        if flat.size != np.prod(header.shape):
            raise DamagedError(f"{self._container.path}: image {position} does not have its shape; restore the file")
        return flat.reshape(header.shape).astype(np.float32)

    def _table(self, number: int) -> np.ndarray:
        if number not in self._places:
            count = min(IMAGES_PER_BLOCK, self.num_images - number * IMAGES_PER_BLOCK)
            self._places[number] = block_places(self._container.read(_BLOCKS + number), count)
        return self._places[number]

    def _read_soft(self) -> np.ndarray | None:
        if self.header.soft is None:
            return None
        data = self._container.read(_SOFT)
        if len(data) != _soft_size(self.header):
            raise DamagedError(f"{self._container.path} lacks soft labels: restore it, or make it again")
        flat = np.frombuffer(data.tobytes(), _little(self.header.soft))
        return flat.reshape(self.header.images, self.header.classes).astype(np.float32)


def _little(name: str | None) -> np.dtype[Any]:
    return np.dtype(name or "float32").newbyteorder("<")


def _soft_size(header: ImageHeader) -> int:
    return 0 if header.soft is None else header.images * header.classes * _little(header.soft).itemsize
