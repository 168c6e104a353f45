"""Tokexp's own token stores as data: one file of training tokens, and one of test tokens or a part that is held out.

The files hold only the codes that are in use in them, so that two of one tokenizer number the same code differently.
Here they have one codebook: the training file's codes, then those that only the test file has. All but the tokens is
checked on opening, the tokens when they are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tokexp.data.base import GivenCodes, TokenSource
from tokexp.data.splits import divide
from tokexp.errors import DamagedError, FieldError, InputError
from tokexp.spec.data import TokenStoreData
from tokexp.storage.base import common_codes, open_store

if TYPE_CHECKING:
    from tokexp.storage.store import TokenStore


class StoredTokens(TokenSource):
    """The tokens of one or two files. Sample ids are the file's role and the place in it: `train/0000042`."""

    def __init__(self, spec: TokenStoreData) -> None:
        """Open the files and see that they go together. Raises FieldError naming the field of the one that does not."""
        named = {"train": spec.train, "test": spec.test}
        self._stores = {role: _opened(role, file) for role, file in named.items() if file is not None}
        stores = list(self._stores.values())
        if not stores[0].num_images:
            raise FieldError(("data", "train"), f"{spec.train!r} holds no image; name a file with some")
        vectors, self._numbers = _together(stores)
        first = stores[0]
        self.grid = first.grid
        self.codebook = GivenCodes(vectors, first.metric, first.implicit_codebook, first.facts)
        self.classes = tuple(map(str, range(_classes(spec, self._stores))))
        self._labels = np.concatenate([store.labels for store in stores])
        counts = [store.num_images for store in stores]
        test = None if len(stores) == 1 else np.arange(counts[0], sum(counts))
        self._positions = divide(
            self._labels, np.arange(counts[0]), test,
            test_fraction=spec.test_fraction, select_fraction=spec.select_fraction, seed=spec.split_seed,
        )  # fmt: skip
        self.splits = tuple(self._positions)

    def labels(self, split: str) -> np.ndarray:
        """Return the int64 labels (N,) of a split."""
        labels: np.ndarray = self._labels[self._positions[split]]
        return labels

    def sample_ids(self, split: str) -> list[str]:
        """Return one name per image."""
        role, start = self._file_of(split)
        return [f"{role}/{position:07d}" for position in (self._positions[split] - start).tolist()]

    def blocks(self, split: str) -> Iterator[np.ndarray]:
        """Yield the uint16 tokens (n, rows, columns) of a split, a block of its file at a time.

        Blocks of which nothing is wanted are not read. Raises DamagedError naming the block that is not as written.
        """
        role, start = self._file_of(split)
        numbers = self._numbers[list(self._stores).index(role)]
        for part in self._stores[role].at(self._positions[split] - start):
            yield numbers[part]

    def content_keys(self) -> dict[str, str]:
        """Return for each file, by its role, 32 hex digits that equal files share and no others."""
        return {role: store.content_key() for role, store in self._stores.items()}

    def counts(self) -> dict[str, int]:
        """Return the number of images by split."""
        return {split: len(positions) for split, positions in self._positions.items()}

    def _file_of(self, split: str) -> tuple[str, int]:
        """Return the role of a split's file and the number of images before its first."""
        if split == "test" and "test" in self._stores:
            return "test", self._stores["train"].num_images
        return "train", 0


def _opened(role: str, file: str) -> TokenStore:
    try:
        return open_store(Path(file).expanduser())
    except (InputError, DamagedError) as error:
        raise FieldError(("data", role), str(error)) from error


def _together(stores: Sequence[TokenStore]) -> tuple[np.ndarray, list[np.ndarray]]:
    try:
        return common_codes(stores)
    except InputError as error:
        message = f"{error}; give files of one tokenizer, such as `tokexp tokenize` makes of the folder above both"
        raise FieldError(("data", "test"), message) from error


def _classes(spec: TokenStoreData, stores: dict[str, TokenStore]) -> int:
    found = {role: store.num_classes for role, store in stores.items()}
    if spec.classes is None:
        if len(set(found.values())) > 1:
            message = f"{spec.test!r} has {found['test']} classes where the training tokens have {found['train']}, "
            message += "so that class numbers may not mean the same; if they do, write data.classes"
            raise FieldError(("data", "test"), message)
        return max(1, found["train"])
    most = max(int(store.labels.max(initial=0)) for store in stores.values())
    if most >= spec.classes:
        raise FieldError(("data", "classes"), f"{spec.classes} given; the files hold labels up to {most}")
    return spec.classes


def build(spec: TokenStoreData) -> StoredTokens:
    """Return the source for a spec."""
    return StoredTokens(spec)
