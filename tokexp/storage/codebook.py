"""The codebook's section of a token store: the codes as float32, or, where they can be computed, which are in use."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from tokexp.errors import DamagedError, InputError
from tokexp.storage.implicit import computed_codes


def codebook_bytes(codes: np.ndarray, implicit: bool, facts: Mapping[str, Any]) -> bytes:
    """Return the bytes for codes (K, d).

    Implicit codes need facts that `computed_codes` knows; they take no byte if all of them are in use, else a bit
    each. Raises InputError for implicit codes that these do not give in ascending order of their index.
    """
    if not implicit:
        return np.ascontiguousarray(codes, dtype="<f4").tobytes()
    everything = computed_codes(facts)
    places = {row.tobytes(): place for place, row in enumerate(everything + 0.0)}
    rows = np.ascontiguousarray(codes, dtype=np.float32) + 0.0  # -0.0 becomes 0.0: equal codes have equal bytes
    used = [places.get(row.tobytes(), -1) for row in rows]
    if any(place < 0 for place in used) or any(a >= b for a, b in pairwise(used)):
        raise InputError(
            "implicit codes must be those that the facts give (fsq_levels, lfq_bits or dct), in their order: store "
            "them as explicit"
        )
    if len(used) == len(everything):
        return b""
    kept = np.zeros(len(everything), np.uint8)
    kept[used] = 1
    return np.packbits(kept, bitorder="little").tobytes()


def read_codebook(data: np.ndarray, shape: tuple[int, int], implicit: bool, facts: Mapping[str, Any]) -> np.ndarray:
    """Return the float32 codes (K, d) out of their bytes. Raises DamagedError if they do not fit together."""
    codes = _computed_codes(data, facts) if implicit else _raw_codes(data, shape)
    if codes.shape != shape:
        raise DamagedError(f"the codebook has shape {codes.shape} instead of {shape}; restore the file")
    return codes


def _raw_codes(data: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if len(data) != 4 * math.prod(shape):
        raise DamagedError(f"{len(data)} bytes are no codebook of shape {shape}; restore the file")
    return np.frombuffer(data.tobytes(), "<f4").reshape(shape).astype(np.float32)


def _computed_codes(data: np.ndarray, facts: Mapping[str, Any]) -> np.ndarray:
    everything = computed_codes(facts)
    if not len(data):
        return everything
    if len(data) != -(-len(everything) // 8):
        raise DamagedError(f"{len(data)} bytes cannot mark {len(everything)} codes; restore the file")
    codes: np.ndarray = everything[np.unpackbits(data, count=len(everything), bitorder="little").astype(bool)]
    return codes
