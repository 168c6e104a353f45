"""In which order training images are kept. Every part of an order is the start of a longer one, so subsets are nested.

Orders are fixed by the seed on every machine: raw words of PCG64 never change between NumPy versions.
"""

import numpy as np

from tokexp.storage.budget import keep_order


def uniform_order(count: int, seed: int) -> np.ndarray:
    """Return all positions (count,) in a random order, whatever their class."""
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")


def score_order(scores: np.ndarray, labels: np.ndarray, seed: int, *, highest: bool, balanced: bool) -> np.ndarray:
    """Return all positions by score, the highest (or lowest) first; equal scores in a random order.

    With `balanced`, classes take turns, each giving its own images by score.
    """
    ranked = np.lexsort((np.random.PCG64(seed).random_raw(len(scores)), -scores if highest else scores))
    return in_turn(ranked, labels, seed) if balanced else ranked


def in_turn(preferred: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the positions `preferred` (n,) so that classes take turns; within a class their order stays.

    In any first part, two classes differ by at most one image unless the smaller one is used up. The classes' turn is
    that of `keep_order`.
    """
    _, classes = np.unique(labels, return_inverse=True)
    own = classes[preferred]
    by_class = np.argsort(own, kind="stable")
    counts = np.bincount(own, minlength=int(classes.max()) + 1)
    rounds = np.arange(len(preferred)) - np.repeat(np.cumsum(counts) - counts, counts)
    turn = np.empty(len(counts), np.int64)
    first_round = keep_order(labels, seed)[: len(counts)]
    turn[classes[first_round]] = np.arange(len(counts))
    chosen = preferred[by_class]
    ordered: np.ndarray = chosen[np.lexsort((turn[classes[chosen]], rounds))]
    return ordered
