"""The token store: the indices of a data set, their labels and their codebook in one file.

`write_store` makes it, `TokenStore.open` reads it through a memory-map, block by block. The file's form is
`tokexp.storage.container`, what it counts as is `tokexp.storage.accounting`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tokexp.errors import DamagedError, InputError
from tokexp.registry import implementation
from tokexp.sections import FIRST_VERSION, VERSION
from tokexp.spec.storage import CodecSpec
from tokexp.storage.accounting import Accounting
from tokexp.storage.base import Codec
from tokexp.storage.bits import pack, unpack, width_of
from tokexp.storage.codebook import codebook_bytes, read_codebook
from tokexp.storage.container import Container, read_container, write_container
from tokexp.storage.header import StoreHeader
from tokexp.storage.traits import FittedCodec, ImageCodec, IndexedCodec, WholeCodec

IMAGES_PER_BLOCK = 4096

_LABELS, _CODEBOOK, _TABLES = 0, 1, 2
"""The sections before the blocks; the third only for a codec with tables."""


def write_store(
    path: Path,
    indices: np.ndarray,
    labels: np.ndarray,
    codes: np.ndarray,
    codec_spec: CodecSpec,
    *,
    metric: str,
    num_classes: int,
    implicit_codebook: bool = False,
    facts: dict[str, Any] | None = None,
) -> Accounting:
    """Write indices (N, rows, columns), labels (N,) and codes (K, d) to a new file; return what its bytes are for.

    With `implicit_codebook` the codes are not stored but computed from `facts["fsq_levels"]`. `facts` must be
    JSON-ready. Raises InputError for anything that the file or the codec cannot hold; no file is left then.
    """
    _check(indices, labels, codes, num_classes)
    count, rows, columns = indices.shape
    tables: list[bytes] = []
    codec: Codec = implementation("codecs", codec_spec.kind)(codec_spec, None, len(codes), rows * columns)
    if isinstance(codec, FittedCodec):
        codec.fit(indices)
        tables = [codec.tables()]
    header = StoreHeader.model_validate({
        "grid": (rows, columns), "images": count, "codes": len(codes), "width": codes.shape[1], "tables": bool(tables),
        "classes": int(num_classes), "metric": metric, "implicit": implicit_codebook, "facts": facts or {},
        "block": max(1, count) if isinstance(codec, WholeCodec) else IMAGES_PER_BLOCK,
        "codec": {"kind": codec_spec.kind, **codec.header()},
    })  # fmt: skip
    written = _Sections(codec, header, indices)
    before = [pack(labels, width_of(num_classes)), codebook_bytes(codes, implicit_codebook, header.facts), *tables]
    version = VERSION if tables else FIRST_VERSION
    write_container(
        path, header.to_bytes(), written.all(before), len(before) + header.num_blocks, version=version
    )  # fmt: skip
    return TokenStore.open(path).accounting


class TokenStore:
    """An opened token store. `codes` is float32 (K, d), `labels` int64 (N,); both were checked on opening."""

    def __init__(self, container: Container, header: StoreHeader) -> None:
        """Read labels and codebook; use `TokenStore.open`."""
        self._container = container
        self._header = header
        self._first_block = _TABLES + header.tables
        if len(container.sections) != self._first_block + header.num_blocks:
            raise DamagedError(f"{container.path} lacks blocks: restore it, or make it again")
        build = implementation("codecs", header.codec["kind"])
        self._codec: Codec = build(None, header.codec, header.codes, header.tokens_per_image)
        if isinstance(self._codec, FittedCodec) != header.tables:
            raise DamagedError(f"{container.path} lacks its codec's tables: restore it, or make it again")
        if isinstance(self._codec, FittedCodec):
            self._codec.load(container.read(_TABLES).tobytes())
        labels = unpack(container.read(_LABELS), header.images, width_of(header.classes)).astype(np.int64)
        if len(labels) and int(labels.max()) >= max(1, header.classes):
            raise DamagedError(f"{container.path} has labels beyond its classes: restore it, or make it again")
        self.labels: np.ndarray = labels
        self.codes: np.ndarray = read_codebook(
            container.read(_CODEBOOK), (header.codes, header.width), header.implicit, header.facts
        )

    @classmethod
    def open(cls, path: Path) -> "TokenStore":
        """Open a file and check all of it but the tokens, which are checked when they are read.

        Raises InputError for a file that is missing, no token store, or too new; DamagedError for a damaged one.
        """
        container = read_container(path)
        return cls(container, StoreHeader.from_bytes(container.header))

    @property
    def path(self) -> Path:
        """Return the file's path."""
        return self._container.path

    @property
    def grid(self) -> tuple[int, int]:
        """Return (rows, columns) of tokens."""
        return self._header.grid

    @property
    def num_images(self) -> int:
        """Return the number of images."""
        return self._header.images

    @property
    def num_codes(self) -> int:
        """Return the number of codes."""
        return self._header.codes

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return self._header.classes

    @property
    def metric(self) -> str:
        """Return how a vector finds its nearest code: `euclidean` or `cosine`."""
        return self._header.metric

    @property
    def implicit_codebook(self) -> bool:
        """Tell whether the codes follow from `facts` and are not in the file."""
        return self._header.implicit

    @property
    def facts(self) -> dict[str, Any]:
        """Return what the writer noted."""
        return dict(self._header.facts)

    @property
    def codec(self) -> dict[str, Any]:
        """Return the codec's kind and header."""
        return dict(self._header.codec)

    @property
    def coder(self) -> Codec:
        """Return the codec that reads this store, its tables loaded."""
        return self._codec

    def content_key(self) -> str:
        """Return 32 hex digits that equal stores share and no others: a digest of header and sections' digests."""
        return self._container.front.content_key()

    @property
    def num_blocks(self) -> int:
        """Return the number of blocks of images."""
        return self._header.num_blocks

    def block_sizes(self) -> list[int]:
        """Return the number of images in every block."""
        return [self._header.block_size(number) for number in range(self.num_blocks)]

    @property
    def accounting(self) -> Accounting:
        """Return what every byte of the file is for. Raises DamagedError if a block that must be read is damaged."""
        index = 0
        if isinstance(self._codec, WholeCodec):
            for number in range(self.num_blocks):
                index += self._codec.index_bytes(self._container.read(self._first_block + number).data)
        elif isinstance(self._codec, IndexedCodec):
            index = sum(self._codec.index_bytes(self._header.block_size(n)) for n in range(self.num_blocks))
        sections = self._container.sections
        return Accounting(
            indices=sum(section.length for section in sections[self._first_block :]) - index,
            index=self._container.index_bytes + index,
            labels=sections[_LABELS].length,
            codebook=sections[_CODEBOOK].length,
            header=self._container.header_bytes,
            images=self.num_images,
            tables=sections[_TABLES].length if self._header.tables else 0,
        )

    def indices(self) -> np.ndarray:
        """Return all tokens, uint16 (N, rows, columns). Raises DamagedError."""
        result, start = np.empty((self.num_images, *self.grid), np.uint16), 0
        for part in self.parts():
            result[start : start + len(part)] = part
            start += len(part)
        return result

    def parts(self) -> Iterator[np.ndarray]:
        """Yield all tokens in order, uint16 (n, rows, columns), a part at a time. Raises DamagedError."""
        for number in range(self.num_blocks):
            yield from self.parts_of(number)

    def parts_of(self, number: int) -> Iterator[np.ndarray]:
        """Yield the tokens of a block in order: all at once, or in parts where one block holds all images."""
        if not isinstance(self._codec, WholeCodec):
            yield self.block(number)
            return
        data = self._container.read(self._first_block + number).data
        for part in self._codec.decode_parts(data, self._header.block_size(number)):
            yield part.reshape(-1, *self.grid)

    def at(self, positions: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the tokens at ascending positions (n,), some at a time; blocks without one of them are not read.

        Raises DamagedError.
        """
        first = 0
        for number, size in enumerate(self.block_sizes()):
            bounds = np.searchsorted(positions, [first, first + size])
            start, first = first, first + size
            if bounds[0] == bounds[1]:
                continue
            for part in self.parts_of(number):
                own = positions[np.searchsorted(positions, start) : np.searchsorted(positions, start + len(part))]
                if len(own):
                    yield part[own - start]
                start += len(part)

    def block(self, number: int) -> np.ndarray:
        """Return the tokens of block `number`, uint16 (n, rows, columns). Raises IndexError and DamagedError."""
        _check_number(number, self.num_blocks, "block")
        count = self._header.block_size(number)
        data = self._container.read(self._first_block + number).tobytes()
        return self._codec.decode(data, count).reshape(count, *self.grid)

    def image(self, position: int) -> np.ndarray:
        """Return the tokens of one image, uint16 (rows, columns). Raises IndexError and DamagedError.

        `packed` reads only this image's bytes, once its block has been checked; codecs of short streams decode the one
        that it is in (about 16,384 tokens); others decode the block.
        """
        _check_number(position, self.num_images, "image")
        number, place = divmod(position, self._header.block)
        if not isinstance(self._codec, ImageCodec):
            image: np.ndarray = self.block(number)[place]
            return image
        data = self._container.read(self._first_block + number)
        return self._codec.decode_image(data, self._header.block_size(number), place).reshape(self.grid)

    def verify(self) -> None:
        """Read everything once more. Raises DamagedError for the first thing that is not as written."""
        self._container.forget()
        for number in range(self._first_block):
            self._container.read(number)
        for _ in self.parts():
            pass


class _Sections:
    """The sections of a store in the making, coded one block at a time."""

    def __init__(self, codec: Codec, header: StoreHeader, indices: np.ndarray) -> None:
        self.codec, self.header, self.indices = codec, header, indices

    def all(self, before: list[bytes]) -> Iterator[bytes]:
        yield from before
        for number in range(self.header.num_blocks):
            start = number * self.header.block
            count = self.header.block_size(number)
            yield self.codec.encode(self.indices[start : start + count].reshape(count, self.header.tokens_per_image))


def _check(indices: np.ndarray, labels: np.ndarray, codes: np.ndarray, num_classes: int) -> None:
    if indices.ndim != 3 or indices.dtype.kind not in "iu" or min(indices.shape[1:]) < 1:
        raise InputError(f"tokens are whole numbers (images, rows, columns), given {indices.dtype} {indices.shape}")
    if labels.shape != indices.shape[:1] or labels.dtype.kind not in "iu":
        raise InputError(f"{len(indices)} images need as many whole labels, given {labels.dtype} {labels.shape}")
    if not 0 <= num_classes <= 65_536:
        raise InputError(f"a token store holds up to 65,536 classes, given {num_classes}")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < max(1, num_classes):
        raise InputError(f"labels from 0 to {num_classes - 1} are needed, given up to {int(labels.max())}")
    if codes.ndim != 2 or not np.isfinite(codes).all():
        raise InputError(f"codes are finite numbers (codes, width), given shape {codes.shape}")


def _check_number(number: int, count: int, what: str) -> None:
    if not 0 <= number < count:
        raise IndexError(f"there is no {what} {number}; the store has {count}")
