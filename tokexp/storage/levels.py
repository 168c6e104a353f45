"""Logarithms of shares in whole numbers, and the frequencies that every CPU makes of them alike.

A level counts 1/64 of a factor of 2: a share of 2**(-level / 64). Powers of 2 are taken by shifts and one parabola with
whole coefficients (within 0.4 %, which costs less than 10**-5 bits per token); no floating point decides what a decoder
reads.
"""

import numpy as np

from tokexp.storage.compiled import compiled

PER_BIT = 64
"""Levels of one bit."""

FULL = 1 << 16
"""What a level of 0 weighs; 16 bits less and more weigh 1."""


@compiled
def weight_of(level: int) -> int:
    """Return round(2**16 * 2**(-level / 64)) nearly, at least 1, for a level from 0 on."""
    rest = level & 63
    halves = min(level >> 6, 17)
    return max(1, (65536 - 688 * rest + ((44 * rest * rest) >> 4)) >> halves)


@compiled
def frequencies_of(levels: np.ndarray, bits: int) -> np.ndarray:
    """Return frequencies (contexts, codes) uint32 above 0 with rows that sum to 2**bits - 1, from levels int32.

    Only differences within a row count. There must be fewer codes than 2**bits.
    """
    contexts, codes = levels.shape
    found = np.empty((contexts, codes), np.uint32)
    total = (np.int64(1) << bits) - 1
    for context in range(contexts):
        least = levels[context].min()
        mass = np.int64(0)
        for code in range(codes):
            mass += weight_of(levels[context, code] - least)
        left = total
        largest = 0
        for code in range(codes):
            # Each gets 1 and its part of the rest, so that no frequency is 0 and no sum exceeds the total.
            share = 1 + (weight_of(levels[context, code] - least) * (total - codes)) // mass
            found[context, code] = share
            left -= share
            if share > found[context, largest]:
                largest = code
        found[context, largest] += left
    return found
