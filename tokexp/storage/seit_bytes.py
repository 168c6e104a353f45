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


def decompress(data: bytes, offsets: np.ndarray, count: int, tokens: int) -> np.ndarray:
    """Return uint16 indices (count, tokens). Raises DamagedError unless stream and offsets say the same."""
    stream = np.frombuffer(gunzip(data, 2 * count * tokens), np.uint8)
    _check_offsets(offsets, count, len(stream))
    indices = np.empty((count, tokens), np.uint16)
    for start, stop in _ranges(count):
        part = unescape(stream[offsets[start] : offsets[stop]])
        if len(part) != (stop - start) * tokens:
            raise DamagedError(f"an image of the stream does not have {tokens} tokens; restore the file")
        indices[start:stop] = part.reshape(stop - start, tokens)
        expected = tokens + (indices[start:stop] >= ESCAPE).sum(axis=1)
        if not np.array_equal(np.diff(offsets[start : stop + 1]), expected):
            raise DamagedError("the offsets of the token stream do not fit its images; restore the file")
    return indices


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
        raise DamagedError(f"the gzip stream of the tokens is broken ({error}); restore the file") from error
    if len(content) > most or not unpacker.eof or unpacker.unused_data:
        raise DamagedError("the gzip stream of the tokens is cut off or too long; restore the file")
    return content


def _check_offsets(offsets: np.ndarray, count: int, length: int) -> None:
    fitting = len(offsets) == count + 1 and offsets[0] == 0 and offsets[-1] == length
    if not fitting or np.any(np.diff(offsets) < 0):
        raise DamagedError("the offsets of the token stream do not fit its length; restore the file")


def _ranges(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, _IMAGES):
        yield start, min(start + _IMAGES, count)
