"""Part of a token store: a range of its images, some of its classes, at most so many of each class."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tokexp.errors import InputError
from tokexp.storage.interchange.table import Block, TokenTable, table_of
from tokexp.storage.store import TokenStore


@dataclass(frozen=True)
class Choice:
    """Which images are taken: those from `start` to before `stop`, of these classes, and of each class the first ones.

    None: no such limit. The order of the images stays as it is.
    """

    start: int | None = None
    stop: int | None = None
    classes: frozenset[int] | None = None
    per_class: int | None = None


def chosen(labels: np.ndarray, choice: Choice) -> np.ndarray:
    """Return the ascending positions (n,) among labels (N,) that a choice takes.

    Raises InputError for a range that begins behind the last image or ends before it begins.
    """
    count = len(labels)
    start = choice.start or 0
    stop = count if choice.stop is None else min(choice.stop, count)
    if start < 0 or stop < start or (start >= count and count):
        raise InputError(f"there is no range {start}:{'' if choice.stop is None else choice.stop} of {count} images")
    taken = np.zeros(count, bool)
    taken[start:stop] = True
    if choice.classes is not None:
        taken &= np.isin(labels, sorted(choice.classes))
    if choice.per_class is not None:
        taken[taken] = _turn(labels[taken]) < choice.per_class
    return np.flatnonzero(taken)


def _turn(labels: np.ndarray) -> np.ndarray:
    """Return for each label (N,) how many equal ones stand before it."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    turns = np.empty(len(labels), np.int64)
    turns[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    return turns


def slice_store(store: TokenStore, choice: Choice) -> TokenTable:
    """Return the chosen images of a store, with its whole codebook: models of the store fit the part too.

    Blocks without a chosen image are not read. Raises InputError for a range or a class that the store does not have.
    """
    unknown = sorted(number for number in choice.classes or () if not 0 <= number < store.num_classes)
    if unknown:
        raise InputError(f"{store.path} has the classes 0 to {store.num_classes - 1}, no class {unknown[0]}")
    positions = chosen(store.labels, choice)

    def blocks() -> Iterator[Block]:
        start = 0
        for indices in store.at(positions):
            yield indices, store.labels[positions[start : start + len(indices)]]
            start += len(indices)

    return table_of(store).with_blocks(len(positions), blocks)
