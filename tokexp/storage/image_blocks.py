"""Blocks of encoded images: the lengths of all, then the bytes of all, so that any image is found without the others.

A block begins with the least length (4 bytes, little-endian) and the width in bits of what the others are longer by
(1 byte); these differences follow, the lowest 16 bits of all of them first, then what is above.
"""

import struct
from collections.abc import Sequence

import numpy as np

from tokexp.errors import DamagedError, InputError
from tokexp.storage.bits import pack, packed_size, unpack, width_of

IMAGES_PER_BLOCK = 1024

_START = struct.Struct("<IB")
_LOW = 16
_MOST = 2**32 - 1


def table_size(lengths: np.ndarray) -> int:
    """Return the bytes that a block of images of these lengths (n,), n at least 1, takes beside the images."""
    return _START.size + _packed(len(lengths), _width(lengths))


def join_block(items: Sequence[bytes]) -> bytes:
    """Return the block of some images, at least one. Raises InputError for one of 4 GiB or more."""
    lengths = np.array([len(item) for item in items], np.int64)
    if int(lengths.max()) > _MOST:
        raise InputError(f"an encoded image of {int(lengths.max())} bytes is too long for a store of images")
    least, width = int(lengths.min()), _width(lengths)
    above = lengths - least
    table = pack(above & 0xFFFF, min(width, _LOW)) + pack(above >> _LOW, max(0, width - _LOW))
    return b"".join([_START.pack(least, width), table, *items])


def block_places(block: np.ndarray, count: int) -> np.ndarray:
    """Return where the images of a block (bytes as uint8) begin, int64 (count + 1,); the last number is the end.

    Raises DamagedError for bytes that no writer wrote.
    """
    if len(block) < _START.size:
        raise DamagedError("a block of images is cut off; restore the file, or make it again")
    least, width = _START.unpack(block[: _START.size].tobytes())
    first = _START.size + _packed(count, width)
    low = packed_size(count, min(width, _LOW))
    if width > 2 * _LOW or first > len(block):
        raise DamagedError("the lengths of a block of images make no sense; restore the file, or make it again")
    table = block[_START.size : first]
    above = unpack(table[:low], count, min(width, _LOW)).astype(np.int64)
    above |= unpack(table[low:], count, max(0, width - _LOW)).astype(np.int64) << _LOW
    places = first + np.concatenate([[0], np.cumsum(above + least)])
    if places[-1] != len(block):
        raise DamagedError("a block of images does not have the length that it says; restore the file")
    return places.astype(np.int64)


def _width(lengths: np.ndarray) -> int:
    return width_of(int(lengths.max()) - int(lengths.min()) + 1)


def _packed(count: int, width: int) -> int:
    return packed_size(count, min(width, _LOW)) + packed_size(count, max(0, width - _LOW))
