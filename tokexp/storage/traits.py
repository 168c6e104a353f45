"""What a codec may offer beyond coding blocks; the store asks for it by type."""

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np

from tokexp.storage.base import Codec


class WholeCodec(Codec):
    """A codec whose bytes span all images of a store: the store holds one block, which is read a part at a time."""

    @abstractmethod
    def index_bytes(self, data: bytes | memoryview) -> int:
        """Return how many of an encoded block's bytes (uint8) only say where images begin."""

    @abstractmethod
    def decode_parts(self, data: bytes | memoryview, count: int) -> Iterator[np.ndarray]:
        """Yield uint16 indices (n, tokens) of a block (uint8) of `count` images, some of them at a time, in order.

        Raises DamagedError for bytes that no encoder wrote, at the part where that shows.
        """


class IndexedCodec(Codec):
    """A codec whose blocks begin with where their parts are."""

    @abstractmethod
    def index_bytes(self, count: int) -> int:
        """Return how many bytes of a block of `count` images only say where parts of it begin."""


class ImageCodec(Codec):
    """A codec that reads one image out of a block without decoding the others."""

    @abstractmethod
    def decode_image(self, data: np.ndarray, count: int, position: int) -> np.ndarray:
        """Return uint16 indices (tokens,) of one image of a block (bytes as uint8) of `count` images."""


class FittedCodec(Codec):
    """A codec with tables that are fitted on tokens and kept in the file once, in a section of their own.

    Without `fit` or `load`, tables are those of tokens about which nothing is known.
    """

    @abstractmethod
    def fit(self, indices: np.ndarray) -> None:
        """Fit on tokens (N, rows, columns), which may be none. Afterwards `header` and `tables` describe the result.

        Raises InputError for an index out of range.
        """

    @abstractmethod
    def tables(self) -> bytes:
        """Return the tables as they are stored."""

    @abstractmethod
    def load(self, tables: bytes) -> None:
        """Take stored tables. Raises DamagedError for what `tables` did not return."""
