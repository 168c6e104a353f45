"""Tables of small whole numbers as bytes of a file: one after another, compressed by LZMA2 without a frame."""

import lzma
from collections.abc import Sequence

import numpy as np

from tokexp.errors import DamagedError

Shape = tuple[int, ...]

_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 22}]


def pack_tables(parts: Sequence[np.ndarray]) -> bytes:
    """Return the bytes of arrays in their own little-endian types."""
    raw = b"".join(np.ascontiguousarray(part, dtype=part.dtype.newbyteorder("<")).tobytes() for part in parts)
    return lzma.compress(raw, lzma.FORMAT_RAW, filters=_FILTERS)


def unpack_tables(data: bytes, shapes: Sequence[tuple[np.dtype, Shape]]) -> list[np.ndarray]:
    """Return arrays of these types and shapes. Raises DamagedError for bytes that are not exactly those arrays."""
    sizes = [dtype.itemsize * int(np.prod(shape)) for dtype, shape in shapes]
    opened = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    try:
        raw = opened.decompress(data, max_length=sum(sizes) + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise DamagedError("the tables of the codec cannot be read; restore the file") from error
    if len(raw) != sum(sizes) or not opened.eof or opened.unused_data:
        raise DamagedError("the tables of the codec do not have the size that they need; restore the file")
    found, place = [], 0
    for (dtype, shape), size in zip(shapes, sizes, strict=True):
        part = np.frombuffer(raw, dtype.newbyteorder("<"), size // dtype.itemsize, place)
        found.append(part.astype(dtype).reshape(shape))
        place += size
    return found


def whole_number(header: dict[str, object], name: str, least: int, most: int) -> int:
    """Return a whole number of a codec's header. Raises DamagedError if it is missing or outside the bounds."""
    value = header.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DamagedError(f"the codec's header has {name} {value!r}, which no writer gives; restore the file")
    return value
