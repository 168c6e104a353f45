"""What every codec does."""

from abc import ABC, abstractmethod

import numpy as np


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
