"""SeiT's released coding as a codec: escaped bytes, one gzip stream over all images, and a gzipped index of offsets.

Source: Park et al. 2023 (SeiT), section on storage; the bytes are described in `tokexp.storage.seit_bytes`. A store
of this codec holds a single block: 4 bytes with the length of the gzipped index, the index, and the gzip stream. It is
read in order, and memory then holds the index and a thousand images.
"""

import struct
from collections.abc import Iterator

import numpy as np

from tokexp.errors import DamagedError, InputError
from tokexp.spec.storage import SeitCodec
from tokexp.storage import seit_bytes
from tokexp.storage.traits import WholeCodec

_LENGTH = struct.Struct("<I")


class Seit(WholeCodec):
    """Indices up to 509 in one gzip stream; no image is readable without the ones before it."""

    def __init__(self, num_codes: int, tokens_per_image: int, level: int) -> None:
        """Take the number of codes, at most 510, the tokens of an image and the effort of gzip (1 to 9)."""
        if num_codes > seit_bytes.MOST_CODES:
            raise InputError(
                f"the codec 'seit' holds at most {seit_bytes.MOST_CODES} codes, given {num_codes}: use 'packed'"
            )
        self.num_codes = num_codes
        self.tokens_per_image = tokens_per_image
        self.level = level

    def header(self) -> dict[str, object]:
        """Return the kind and the effort; decoding needs neither, a reader wants to know."""
        return {"kind": "seit", "level": self.level}

    def encode(self, indices: np.ndarray) -> bytes:
        """Return the bytes of indices (n, tokens). Raises InputError for an index outside the codebook."""
        if indices.size and (int(indices.max()) >= self.num_codes or int(indices.min()) < 0):
            raise InputError(f"indices from 0 to {self.num_codes - 1} are needed, given up to {int(indices.max())}")
        stream, offsets = seit_bytes.compress(indices, self.level)
        index = seit_bytes.gzip_array(offsets, self.level)
        return _LENGTH.pack(len(index)) + index + stream

    def decode(self, data: bytes | memoryview, count: int) -> np.ndarray:
        """Return uint16 indices (count, tokens). Raises DamagedError for bytes that no encoder wrote."""
        indices, start = np.empty((count, self.tokens_per_image), np.uint16), 0
        for part in self.decode_parts(data, count):
            indices[start : start + len(part)] = part
            start += len(part)
        return indices

    def decode_parts(self, data: bytes | memoryview, count: int) -> Iterator[np.ndarray]:
        """Yield uint16 indices (n, tokens) of some images at a time. Raises DamagedError."""
        end = self.index_bytes(data)
        offsets = seit_bytes.gunzip_offsets(bytes(data[_LENGTH.size : end]), count)
        for part in seit_bytes.decompress_parts(data[end:], offsets, count, self.tokens_per_image):
            if part.size and int(part.max()) >= self.num_codes:
                raise DamagedError(f"a stored index is not below the {self.num_codes} codes; restore the file")
            yield part

    def index_bytes(self, data: bytes | memoryview) -> int:
        """Return the bytes of the index and of its length. Raises DamagedError if the data is shorter."""
        if len(data) < _LENGTH.size:
            raise DamagedError("the block is too short for a token stream; restore the file")
        (length,) = _LENGTH.unpack_from(data)
        if _LENGTH.size + length > len(data):
            raise DamagedError("the block is too short for its index; restore the file")
        return _LENGTH.size + int(length)


def build(spec: SeitCodec | None, header: dict[str, object] | None, num_codes: int, tokens_per_image: int) -> Seit:
    """Return the codec with the effort of the spec (writing) or of the header (reading)."""
    level = spec.level if spec is not None else (header or {}).get("level", 9)
    return Seit(num_codes, tokens_per_image, level if isinstance(level, int) else 9)
