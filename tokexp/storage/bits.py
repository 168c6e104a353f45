"""Whole numbers in as few bits as their range needs, packed and unpacked by whole-array operations.

A number of w bits is cut, from its lowest bits on, into pieces of 8, 4, 2 or 1 bits (9 = 8 + 1, 6 = 4 + 2); the first
pieces of all numbers come first, then all second pieces. Each such plane is a plain array of bytes, so packing runs at
the speed of memory, and piece i of a plane of w bits lies at bit i * w of it: it is found without reading others.
Within a byte the earlier number has the lower bits. The last byte of a plane is filled up with zeros.
"""

import numpy as np

from tokexp.errors import DamagedError

_CHUNK = 1 << 17
"""Numbers handled at a time: few enough to stay in a core's cache; a multiple of 8 keeps planes on whole bytes."""


def width_of(count: int) -> int:
    """Return the bits that tell `count` different things apart: 0 for one thing, 9 for 391."""
    return max(0, count - 1).bit_length()


def packed_size(count: int, width: int) -> int:
    """Return the bytes that `count` numbers of `width` bits take."""
    return sum(_plane_size(count, plane) for plane in _planes(width))


def pack(values: np.ndarray, width: int) -> bytes:
    """Return the bytes of whole numbers (n,) from 0 to below 2**width, with width at most 16."""
    flat = np.ascontiguousarray(values, dtype=np.uint16)
    packed = np.zeros(packed_size(len(flat), width), np.uint8)
    for start in range(0, len(flat), _CHUNK):
        chunk = flat[start : start + _CHUNK]
        offset = shift = 0
        for plane in _planes(width):
            piece = (chunk >> shift).astype(np.uint8) if shift else chunk.astype(np.uint8)
            shift += plane
            if plane < 8 and shift < width:
                piece &= (1 << plane) - 1
            first = offset + start * plane // 8
            packed[first : first + _plane_size(len(chunk), plane)] = _join(piece, plane)
            offset += _plane_size(len(flat), plane)
    return packed.tobytes()


def unpack(data: bytes | np.ndarray, count: int, width: int) -> np.ndarray:
    """Return the uint16 numbers (count,) of `pack`. Raises DamagedError for a wrong length or filling."""
    packed = np.frombuffer(data, np.uint8)
    if len(packed) != packed_size(count, width):
        raise DamagedError(f"{len(packed)} bytes cannot be {count} numbers of {width} bits; restore the file")
    _check_filling(packed, count, width)
    return unpack_range(packed, count, width, 0, count)


def unpack_range(data: bytes | np.ndarray, count: int, width: int, start: int, stop: int) -> np.ndarray:
    """Return the numbers from `start` to below `stop` (uint16) out of `count`, reading only their bytes."""
    packed = np.frombuffer(data, np.uint8)
    lead = start % 8
    values = np.zeros(stop - start + lead, np.uint16)
    for first in range(0, len(values), _CHUNK):
        chunk = values[first : first + _CHUNK]
        offset = len(packed)
        for plane in reversed(_planes(width)):
            offset -= _plane_size(count, plane)
            begin = offset + (start - lead + first) * plane // 8
            chunk <<= plane
            chunk |= _split(packed[begin : begin + _plane_size(len(chunk), plane)], len(chunk), plane)
    return values[lead:]


def _planes(width: int) -> list[int]:
    return [8] * (width // 8) + [bits for bits in (4, 2, 1) if width % 8 & bits]


def _plane_size(count: int, plane: int) -> int:
    return -(-count * plane // 8)


def _join(pieces: np.ndarray, plane: int) -> np.ndarray:
    """Return bytes that hold 8 / plane pieces (uint8) each."""
    if plane == 8:
        return pieces
    if plane == 1:
        return np.packbits(pieces, bitorder="little")
    together = 8 // plane
    if len(pieces) % together:
        pieces = np.concatenate([pieces, np.zeros(-len(pieces) % together, np.uint8)])
    wide = pieces.view(f"<u{together}")
    # The piece k of a word lies at bit 8 k and belongs at bit plane * k: shifts bring all of them into the low byte.
    joined = wide.copy()
    for place in range(1, together):
        joined |= wide >> ((8 - plane) * place)
    return joined.astype(np.uint8)


def _split(joined: np.ndarray, count: int, plane: int) -> np.ndarray:
    """Return the first `count` pieces (uint8) of bytes made by `_join`."""
    if plane == 8:
        return joined
    if plane == 1:
        return np.unpackbits(joined, count=count, bitorder="little")
    together = 8 // plane
    wide = joined.astype(f"<u{together}")
    spread = wide.copy()
    for place in range(1, together):
        spread |= wide << ((8 - plane) * place)
    spread &= int.from_bytes(bytes([(1 << plane) - 1] * together), "little")
    return spread.view(np.uint8)[:count]


def _check_filling(packed: np.ndarray, count: int, width: int) -> None:
    end = 0
    for plane in _planes(width):
        end += _plane_size(count, plane)
        used = count * plane % 8
        if used and int(packed[end - 1]) >> used:
            raise DamagedError("the bits behind the last packed number are not zero; restore the file")
