"""Streams of 32-bit words coded by rANS with tables: what `rans0` and `rans_context` at level `fast` share."""

from abc import abstractmethod

import numpy as np

from tokexp.errors import DamagedError
from tokexp.storage.rans import Tables, encode_rows
from tokexp.storage.streams import StreamCodec


class RansCodec(StreamCodec):
    """Streams of words coded by one `Tables`; kinds say by which, and what a code's group is."""

    @abstractmethod
    def model(self) -> tuple[Tables, np.ndarray, int]:
        """Return the tables, the group of each code and of outside, and the columns of the grid."""

    def encode_stream(self, indices: np.ndarray) -> bytes:
        """Return the words of indices (n, tokens)."""
        tables, groups, columns = self.model()
        words = np.empty(2 + indices.size, np.uint32)
        used = encode_rows(indices, columns, groups, tables.cumulative, tables.bits, words)
        return words[len(words) - used :].astype("<u4").tobytes()

    def decode_stream(self, data: np.ndarray, count: int) -> np.ndarray:
        """Return uint16 indices (count, tokens). Raises DamagedError."""
        tables, groups, columns = self.model()
        found = np.empty((count, self.tokens_per_image), np.uint16)
        require_end(tables.decode(as_words(data), columns, groups, found))
        return found

    def decode_streams(self, block: np.ndarray, places: np.ndarray, found: np.ndarray) -> None:
        """Fill found (count, tokens) from the streams block[places[i]:places[i + 1]]. Raises DamagedError."""
        tables, groups, columns = self.model()
        words = as_words(block[places[0] :])
        require_end(not ((places - places[0]) % 4).any())
        require_end(tables.decode_all(words, (places - places[0]) // 4, columns, groups, found, self.together))


def require_end(sound: bool) -> None:
    """Raise DamagedError unless a stream was one that ends with its tokens."""
    if not sound:
        raise DamagedError("a stream of tokens does not end where it should; restore the file")


def as_words(data: np.ndarray) -> np.ndarray:
    """Return a stream's bytes (uint8) as uint32 words. Raises DamagedError for a length that is no multiple of 4."""
    if len(data) % 4:
        raise DamagedError("a stream of tokens is not made of whole words; restore the file")
    return np.frombuffer(data.tobytes(), "<u4").astype(np.uint32)
