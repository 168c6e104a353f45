"""Blocks of short streams, each some images long: what codecs share that code images one after another.

A block: per stream 4 bytes (little-endian) with its length, then the streams. A stream holds as many images as make
about 16,384 tokens (16 images of 1,024 tokens), so that its fixed cost is below 0.1 % of it, and reading one image
decodes no more than those.
"""

from abc import abstractmethod

import numpy as np

from tokexp.errors import DamagedError, InputError
from tokexp.storage.traits import ImageCodec, IndexedCodec

STREAM_TOKENS = 1 << 14
MOST_CODES = 65_536
"""An index is a uint16 in memory."""

MOST_STREAM_IMAGES = STREAM_TOKENS

_LENGTH = 4


class StreamCodec(ImageCodec, IndexedCodec):
    """A codec of streams; kinds code and decode one stream at a time. Threads may decode at once."""

    def __init__(self, num_codes: int, tokens_per_image: int, together: int | None = None) -> None:
        """Take the number of codes, the tokens of an image and the images of a stream (None: as a writer chooses)."""
        if num_codes > MOST_CODES:
            raise InputError(f"{num_codes} codes are more than the {MOST_CODES} that a token store can hold")
        self.num_codes = num_codes
        self.tokens_per_image = tokens_per_image
        self.together = max(1, STREAM_TOKENS // tokens_per_image) if together is None else together

    @abstractmethod
    def encode_stream(self, indices: np.ndarray) -> bytes:
        """Return the bytes of indices (n, tokens), uint16 in range, contiguous, n at least 1."""

    @abstractmethod
    def decode_stream(self, data: np.ndarray, count: int) -> np.ndarray:
        """Return uint16 indices (count, tokens) of a stream (uint8). Raises DamagedError."""

    def check(self, indices: np.ndarray) -> None:
        """Raise InputError for an index outside the codebook."""
        if indices.size and (int(indices.max()) >= self.num_codes or int(indices.min()) < 0):
            raise InputError(f"indices from 0 to {self.num_codes - 1} are needed, given up to {int(indices.max())}")

    def encode(self, indices: np.ndarray) -> bytes:
        """Return the bytes of one block of indices (n, tokens). Raises InputError for an index out of range."""
        self.check(indices)
        narrow = np.ascontiguousarray(indices, dtype=np.uint16)
        parts = [self.encode_stream(narrow[at : at + self.together]) for at in range(0, len(narrow), self.together)]
        return np.array([len(part) for part in parts], "<u4").tobytes() + b"".join(parts)

    def decode(self, data: bytes, count: int) -> np.ndarray:
        """Return uint16 indices (count, tokens). Raises DamagedError for bytes that no encoder wrote."""
        block = np.frombuffer(data, np.uint8)
        found = np.empty((count, self.tokens_per_image), np.uint16)
        self.decode_streams(block, self._places(block, count), found)
        return found

    def decode_streams(self, block: np.ndarray, places: np.ndarray, found: np.ndarray) -> None:
        """Fill found (count, tokens) from the streams block[places[i]:places[i + 1]]. Raises DamagedError."""
        for number, at in enumerate(range(0, len(found), self.together)):
            images = min(self.together, len(found) - at)
            found[at : at + images] = self.decode_stream(block[places[number] : places[number + 1]], images)

    def decode_image(self, data: np.ndarray, count: int, position: int) -> np.ndarray:
        """Return uint16 indices (tokens,) of the image at `position`, decoding only the stream that it is in."""
        places = self._places(data, count)
        number, place = divmod(position, self.together)
        images = min(self.together, count - number * self.together)
        image: np.ndarray = self.decode_stream(data[places[number] : places[number + 1]], images)[place]
        return image

    def index_bytes(self, count: int) -> int:
        """Return the bytes of the streams' lengths in a block of `count` images."""
        return _LENGTH * -(-count // self.together)

    def _places(self, block: np.ndarray, count: int) -> np.ndarray:
        """Return where streams begin, and where the last one ends."""
        start = self.index_bytes(count)
        if len(block) < start:
            raise DamagedError("the block is too short for its index; restore the file")
        lengths = np.frombuffer(block[:start].tobytes(), "<u4").astype(np.int64)
        places: np.ndarray = np.concatenate([[start], start + np.cumsum(lengths)]).astype(np.int64)
        if places[-1] != len(block):
            raise DamagedError("the block does not have the length that its index says; restore the file")
        return places
