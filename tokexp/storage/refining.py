"""Logarithmic corrections of a prediction by counts, as small whole numbers of which most are 0.

A correction is log2 of (counted share / predicted share) in eighths of a bit. It is kept where the bits that it saves
are more than what it costs to store; all others are 0 and nearly free. So tables grow with the data behind them, and
with few data the prediction stays as it was.
"""

import numpy as np

PER_BIT = 8
"""Steps of a bit: rounding to eighths costs about 0.0005 bits per token."""

COST = 6.0
"""Bits that a kept correction is taken to cost in the file."""

STRENGTH = 60.0
"""Counts that a prediction is worth."""

TO_LEVELS = 8
"""Levels (`levels.PER_BIT` of a bit) of one step."""


def corrections(
    counts: np.ndarray, predicted: np.ndarray, cost: float = COST, strength: float = STRENGTH
) -> np.ndarray:
    """Return int8 (contexts, codes) for counts (contexts, codes) and logarithms to base 2 of predicted shares.

    `predicted` may be one row for all contexts, and need not be normalised.
    """
    prior = np.exp2(predicted - predicted.max(axis=1, keepdims=True))
    prior = prior / prior.sum(axis=1, keepdims=True)
    total = counts.sum(axis=1, keepdims=True)
    share = (counts + strength * prior) / (total + strength)
    # A prediction so small that it is 0 in floating point stays as it is.
    change = np.log2(share / np.maximum(prior, 1e-300), where=share > 0, out=np.zeros_like(share))
    saved = counts * change - total * (share - prior) / np.log(2)
    steps = np.clip(np.rint(PER_BIT * change), -127, 127)
    return np.where(saved > cost, steps, 0).astype(np.int8)


def order0(counts: np.ndarray) -> np.ndarray:
    """Return the corrections int8 (codes,) of equal shares by counts (codes,)."""
    found: np.ndarray = corrections(counts[None], np.zeros((1, len(counts))), strength=1.0)[0]
    return found


def code_bits(counts: np.ndarray, frequencies: np.ndarray) -> float:
    """Return the bits that counts (contexts, codes) take with frequencies of the same shape."""
    shares = np.log2(frequencies.astype(np.float64)) - np.log2(frequencies.sum(axis=1, keepdims=True))
    return float(-(counts * shares).sum())
