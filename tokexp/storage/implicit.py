"""Codes that follow from their index and are therefore not stored: finite scalar quantisation.

Source: Mentzer et al. 2023, "Finite scalar quantization: VQ-VAE made simple". Dimension i takes `levels[i]` values;
the index counts through their combinations, first dimension fastest.
"""

import math
from collections.abc import Sequence

import numpy as np


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
