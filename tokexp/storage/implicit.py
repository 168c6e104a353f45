"""Codes that follow from their index and are therefore not stored: scalar quantisation of several kinds.

Sources: Mentzer et al. 2023, "Finite scalar quantization: VQ-VAE made simple": dimension i takes `levels[i]` values,
and the index counts through their combinations, first dimension fastest. Yu et al. 2024 (MAGVIT-v2), look-up free
quantization: every dimension is a sign, the index its bits, lowest first. Levels of cosine coefficients:
the whole numbers.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tokexp.errors import InputError

_MOST = 65_536


def fsq_codes(levels: Sequence[int]) -> np.ndarray:
    """Return float32 codes (product of levels, number of dimensions), values in [-1, 1].

    A dimension of L levels takes (k - L // 2) / (L // 2) for k = 0 .. L - 1: an even L reaches -1 but not 1.
    """
    index = np.arange(math.prod(levels))
    columns = []
    for count in levels:
        half = count // 2
        columns.append((index % count - half) / half)
        index = index // count
    return np.stack(columns, axis=1).astype(np.float32)


def lfq_codes(bits: int) -> np.ndarray:
    """Return float32 codes (2 to the bits, bits) of signs, -1 and 1."""
    return 2 * fsq_codes([2] * bits) + 1


def whole_levels(count: int) -> np.ndarray:
    """Return float32 codes (count, 1): the whole numbers from -count / 2 to below count / 2."""
    return np.arange(-(count // 2), count - count // 2, dtype=np.float32)[:, None]


def computed_codes(facts: Mapping[str, Any]) -> np.ndarray:
    """Return all codes that `fsq_levels`, `lfq_bits` or `dct` in the facts give. Raises InputError if none does."""
    levels, bits, transform = facts.get("fsq_levels"), facts.get("lfq_bits"), facts.get("dct")
    count = transform.get("levels") if isinstance(transform, Mapping) else None
    if isinstance(count, int) and 2 <= count <= _MOST:
        return whole_levels(count)
    if isinstance(bits, int) and 1 <= bits <= 16:
        return lfq_codes(bits)
    counts = tuple(levels) if isinstance(levels, Sequence) else ()
    known = all(isinstance(count, int) and count >= 2 for count in counts)
    if known and 1 < math.prod(counts) <= _MOST:
        return fsq_codes(counts)
    raise InputError(
        "an implicit codebook needs facts['fsq_levels'], such as [8, 8], facts['lfq_bits'], such as 6, or the levels "
        "in facts['dct']; at most 65,536 codes"
    )
