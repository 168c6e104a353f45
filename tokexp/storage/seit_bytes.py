"""The bytes of SeiT's released token files: an escape code per index, and gzip over all images.

Source: Park et al. 2023 (SeiT), in the form that the released reader understands: an index v below 255 is the byte v,
any other is the byte 255 and then v - 255. So 509 is the largest index; the paper's Algorithm 1 differs (it escapes at
256, which no byte holds). Offsets count bytes of the uncompressed stream, one per image and one for the end.
"""

import io
import zlib
from collections.abc import Iterator

import numpy as np

from tokexp.errors import DamagedError, InputError

ESCAPE = 255
"""The byte that says: add me to the next one."""

MOST_CODES = 2 * ESCAPE
"""The largest index is one less."""

_IMAGES = 1024
_AT_ONCE = 1 << 16
"""Packed bytes that are handed to zlib at a time."""

GZIP = 16 + zlib.MAX_WBITS
"""What zlib is told for a gzip stream; its head has no date, so that equal content is equal bytes."""


def escape(indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes (uint8) of indices (n, tokens) and how many of them each image takes (n,).

    Raises InputError for an index below 0 or above 509.
    """
    if indices.size and (int(indices.max()) >= MOST_CODES or int(indices.min()) < 0):
        raise InputError(
            f"SeiT's bytes hold indices from 0 to {MOST_CODES - 1}, given {int(indices.max())}: use the codec 'packed'"
        )
    escaped = indices >= ESCAPE
    pairs = np.empty((*indices.shape, 2), np.uint8)
    pairs[..., 0] = np.minimum(indices, ESCAPE)
    # Where the index is not escaped this byte is meaningless, and is not taken.
    pairs[..., 1] = (indices.astype(np.int32) - ESCAPE) & 0xFF
    taken = np.ones(pairs.shape, bool)
    taken[..., 1] = escaped
    stream: np.ndarray = pairs[taken]
    return stream, indices.shape[1] + escaped.sum(axis=1)


def unescape(stream: np.ndarray) -> np.ndarray:
    """Return the uint16 indices that bytes (uint8) stand for. Raises DamagedError for bytes that no index has."""
    lead = stream == ESCAPE
    if len(lead) and (lead[-1] or np.any(lead[1:] & lead[:-1])):
        raise DamagedError("the token stream has an escape byte without an index behind it; restore the file")
    values = stream.astype(np.uint16)
    values[1:][lead[:-1]] += ESCAPE
    indices: np.ndarray = values[~lead]
    return indices


def compress(indices: np.ndarray, level: int) -> tuple[bytes, np.ndarray]:
    """Return the gzip stream of indices (n, tokens) and the int64 offsets (n + 1,) into what it holds."""
    offsets = np.zeros(len(indices) + 1, np.int64)
    packer = zlib.compressobj(level, zlib.DEFLATED, GZIP)
    parts = []
    for start in range(0, len(indices), _IMAGES):
        chunk = indices[start : start + _IMAGES]
        stream, lengths = escape(chunk)
        offsets[start + 1 : start + 1 + len(chunk)] = lengths
        parts.append(packer.compress(stream.tobytes()))
    parts.append(packer.flush())
    return b"".join(parts), np.cumsum(offsets)


def decompress(data: bytes | memoryview, offsets: np.ndarray, count: int, tokens: int) -> np.ndarray:
    """Return uint16 indices (count, tokens). Raises DamagedError unless stream and offsets say the same."""
    indices, start = np.empty((count, tokens), np.uint16), 0
    for part in decompress_parts(data, offsets, count, tokens):
        indices[start : start + len(part)] = part
        start += len(part)
    return indices


def decompress_parts(data: bytes | memoryview, offsets: np.ndarray, count: int, tokens: int) -> Iterator[np.ndarray]:
    """Yield uint16 indices (n, tokens) of some images at a time; no more of the stream is unpacked at once.

    Raises DamagedError where stream and offsets do not say the same.
    """
    _check_offsets(offsets, count)
    stream = _Unpacked(data)
    for start, stop in _ranges(count):
        own = offsets[start : stop + 1] - offsets[start]
        part = unescape(stream.read(int(own[-1])))
        if len(part) != (stop - start) * tokens:
            raise DamagedError(f"the stream has no {tokens} tokens for an image by its offsets; restore the file")
        indices = part.reshape(stop - start, tokens)
        if not np.array_equal(np.diff(own), tokens + (indices >= ESCAPE).sum(axis=1)):
            raise DamagedError("the offsets of the token stream do not fit its images; restore the file")
        yield indices
    stream.end()


class _Unpacked:
    """What one gzip stream (uint8) holds, unpacked as it is asked for."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._at = memoryview(data), 0
        self._unpacker, self._packed = zlib.decompressobj(GZIP), b""

    def read(self, count: int) -> np.ndarray:
        """Return the next bytes (count,) uint8. Raises DamagedError if there are fewer."""
        parts, missing = [], count
        while missing and not self._unpacker.eof:
            part = self._unpack(missing)
            parts.append(part)
            missing -= len(part)
            if not part and not self._packed and self._at >= len(self._data):
                break
        if missing:
            raise _broken("is shorter than its offsets say")
        return np.frombuffer(b"".join(parts), np.uint8)

    def end(self) -> None:
        """Raise DamagedError unless all was read and nothing follows."""
        while not self._unpacker.eof:
            if self._unpack(1):
                raise _broken("is longer than its offsets say")
            if self._at >= len(self._data) and not (self._packed or self._unpacker.eof):
                raise _broken("is cut off")
        if self._unpacker.unused_data or self._at < len(self._data):
            raise _broken("has something behind its end")

    def _unpack(self, most: int) -> bytes:
        if not self._packed:
            self._packed = bytes(self._data[self._at : self._at + _AT_ONCE])
            self._at += len(self._packed)
        try:
            content = self._unpacker.decompress(self._packed, most)
        except zlib.error as error:
            raise _broken(f"is broken ({error})") from error
        self._packed = self._unpacker.unconsumed_tail
        return content


def _broken(what: str) -> DamagedError:
    return DamagedError(f"the gzip stream of the tokens {what}; restore the file")


def gzip_array(array: np.ndarray, level: int) -> bytes:
    """Return a gzipped .npy of an array, the same bytes at any time."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    packer = zlib.compressobj(level, zlib.DEFLATED, GZIP)
    return packer.compress(file.getvalue()) + packer.flush()


def gunzip_offsets(data: bytes, count: int) -> np.ndarray:
    """Return the int64 offsets (count + 1,) of a gzipped .npy. Raises DamagedError for anything else."""
    try:
        offsets: np.ndarray = np.load(io.BytesIO(gunzip(data, 8 * (count + 1) + 1024)), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError) as error:
        raise DamagedError("the offsets of the token stream are not a NumPy array; restore the file") from error
    if offsets.shape != (count + 1,) or offsets.dtype.kind not in "iu":
        raise DamagedError(f"the token stream needs {count + 1} whole offsets; restore the file")
    return offsets.astype(np.int64)


def gunzip(data: bytes, most: int) -> bytes:
    """Return what one gzip stream holds, at most `most` bytes. Raises DamagedError if it is broken or longer."""
    unpacker = zlib.decompressobj(GZIP)
    try:
        content = unpacker.decompress(data, most + 1)
    except zlib.error as error:
        raise _broken(f"is broken ({error})") from error
    if len(content) > most or not unpacker.eof or unpacker.unused_data:
        raise _broken("is cut off or too long")
    return content


def _check_offsets(offsets: np.ndarray, count: int) -> None:
    if len(offsets) != count + 1 or offsets[0] != 0 or np.any(np.diff(offsets) < 0):
        raise DamagedError("the offsets of the token stream do not fit its length; restore the file")


def _ranges(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, _IMAGES):
        yield start, min(start + _IMAGES, count)
