"""What every form of a token set is read as and written from: codes, and blocks of indices with their labels."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tokexp.durable import written_whole
from tokexp.errors import DataError
from tokexp.spec.storage import CodecSpec
from tokexp.storage.store import TokenStore, write_store

Block = tuple[np.ndarray, np.ndarray]
"""Indices (n, rows, columns) uint16 and labels (n,) int64 of some images, in their order."""

AT_ONCE = 4096
"""Images that readers and writers handle at a time."""


@dataclass(frozen=True)
class TokenTable:
    """A split of a token set. Its tokens are never all in memory: `blocks()` gives them once more at every call.

    codes: float32 (K, d). metric: how a vector finds its nearest code. implicit: the codes follow from
    `facts` and need not be stored. facts: what a writer noted, JSON-ready.
    """

    grid: tuple[int, int]
    images: int
    codes: np.ndarray
    num_classes: int
    blocks: Callable[[], Iterator[Block]]
    metric: str = "euclidean"
    implicit: bool = False
    facts: dict[str, Any] = field(default_factory=dict)

    def with_blocks(self, images: int, blocks: Callable[[], Iterator[Block]]) -> "TokenTable":
        """Return a table of other images of the same codes, grid and classes."""
        return replace(self, images=images, blocks=blocks)


def table_of(store: TokenStore) -> TokenTable:
    """Return a store's content. Its blocks are checked against their digests when they are read."""

    def blocks() -> Iterator[Block]:
        start = 0
        for indices in store.parts():
            yield indices, store.labels[start : start + len(indices)]
            start += len(indices)

    return TokenTable(
        store.grid, store.num_images, store.codes, store.num_classes, blocks, store.metric, store.implicit_codebook,
        store.facts,
    )  # fmt: skip


def in_parts(blocks: Iterable[Block], size: int = AT_ONCE) -> Iterator[Block]:
    """Yield blocks of at most `size` images, cut out of larger ones."""
    for indices, labels in blocks:
        for start in range(0, len(indices), size):
            yield indices[start : start + size], labels[start : start + size]


def write_table(path: Path, table: TokenTable, codec: CodecSpec) -> None:
    """Write a table as a token store, seen whole or not at all; an older file of that name is replaced.

    Tokens are gathered in a mapped file beside the store, so that memory stays small for any number of images.
    Raises InputError for what a store or the codec cannot hold, and what reading the table raises.
    """
    with written_whole(path) as beside:
        gathered = beside.with_name(f"{beside.name}.gathered")
        try:
            indices, labels = _gather(table, gathered)
            write_store(
                beside, indices, labels, table.codes, codec, metric=table.metric, num_classes=table.num_classes,
                implicit_codebook=table.implicit, facts=table.facts,
            )  # fmt: skip
        finally:
            gathered.unlink(missing_ok=True)


def _gather(table: TokenTable, file: Path) -> Block:
    labels = np.empty(table.images, np.int64)
    if not table.images:
        return np.empty((0, *table.grid), np.uint16), labels
    start = 0
    # Written as a file and mapped afterwards: on a full disk, writing to a mapped file would end the process.
    with file.open("wb") as gathered:
        for block, own in table.blocks():
            check_block(block, table)
            stop = start + len(block)
            if stop > table.images:
                raise DataError(
                    f"the source holds more than the {table.images} images that it announces; make it again"
                )
            gathered.write(np.ascontiguousarray(block, np.uint16).tobytes())
            labels[start:stop] = own
            start = stop
    if start < table.images:
        raise DataError(f"the source holds {start} images where it announces {table.images}; make it again")
    return np.memmap(file, np.uint16, "r", shape=(table.images, *table.grid)), labels


def check_block(indices: np.ndarray, table: TokenTable) -> None:
    """Raise DataError unless indices (n, rows, columns) fit the table's grid and codes."""
    if indices.shape[1:] != table.grid:
        raise DataError(f"images of {indices.shape[1:]} tokens do not fit the grid {table.grid}; give another grid")
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < len(table.codes):
        raise DataError(
            f"tokens from {int(indices.min())} to {int(indices.max())} do not fit the codebook of "
            f"{len(table.codes)} codes"
        )
