"""What other components see of this one: what every codec does, and token stores as they are opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from tokexp.storage.store import TokenStore


class Codec(ABC):
    """Lossless coding of a block of images: indices (n, tokens) below `num_codes` to bytes and back.

    `header` (JSON-ready) holds all that decoding needs beside the bytes; it is stored once per file.
    """

    @abstractmethod
    def header(self) -> dict[str, object]:
        """Return what `decode` needs: written once per store, JSON-ready."""

    @abstractmethod
    def encode(self, indices: np.ndarray) -> bytes:
        """Return the bytes of one block of indices (n, tokens). Raises InputError for an index it cannot hold."""

    @abstractmethod
    def decode(self, data: bytes, count: int) -> np.ndarray:
        """Return uint16 indices (count, tokens). Raises DamagedError for bytes that no encoder wrote."""


def open_store(path: Path) -> TokenStore:
    """Return a token store, all of it checked but its tokens, which are when they are read.

    Raises InputError for a file that is missing, no token store, or too new; DamagedError for a damaged one.
    """
    from tokexp.storage.store import TokenStore

    return TokenStore.open(path)


def common_codes(stores: Sequence[TokenStore]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the codes (U, d) of several stores together, and for each the new number of every own one, uint16 (K,).

    Stores hold only the codes in use, so that parts of one data set number the same code differently. Raises
    InputError for stores whose tokens cannot be those of one tokenizer (see `tokexp.storage.interchange.merging`).
    """
    from tokexp.storage.interchange.merging import merged_codes

    return merged_codes(stores)
