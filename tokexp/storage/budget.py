"""Which images are kept, and how many fit: subsets are class-balanced, nested, and measured, not estimated."""

from collections.abc import Callable

import numpy as np

from tokexp.errors import InputError
from tokexp.spec.storage import StorageSpec


def keep_order(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return all positions (N,) of labels (N,) in the order in which images are kept.

    Classes take turns, each giving its images in a random order, until they run out: in any first part, two classes
    differ by at most one image unless the smaller one is used up. Fixed by the seed, on every machine.
    """
    # Raw output of the bit generator never changes between NumPy versions; `permutation` could.
    bits = np.random.PCG64(seed)
    shuffled = np.argsort(bits.random_raw(len(labels)), kind="stable")
    _, classes = np.unique(labels, return_inverse=True)
    counts = np.bincount(classes)
    turn_of_class = np.argsort(np.argsort(bits.random_raw(len(counts)), kind="stable"), kind="stable")
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    rounds = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return by_class[np.lexsort((np.repeat(turn_of_class, counts), rounds))]


def fit_budget(spec: StorageSpec, num_images: int, measure: Callable[[int], int]) -> int:
    """Return how many of `num_images` images are kept.

    `measure(count)` gives the bytes of a store of the first `count` images. With a budget, the result fits it and one
    image more does not. Raises InputError if one image is too much already.
    """
    if num_images == 0:
        return 0
    if spec.fraction is not None:
        return min(num_images, max(1, round(spec.fraction * num_images)))
    if spec.budget is None:
        return num_images
    limit = spec.budget.bytes * (num_images if spec.budget.per == "image" else 1)
    most = measure(num_images)
    if most <= limit:
        return num_images
    least = measure(1) if num_images > 1 else most
    if least > limit:
        raise InputError(
            f"storage.budget: {limit:.0f} bytes do not hold a single image; "
            f"the smallest possible store takes {least} bytes, so give at least that"
        )
    return _largest_fitting(limit, (1, least), (num_images, most), measure)


def _largest_fitting(
    limit: float, fits: tuple[int, int], exceeds: tuple[int, int], measure: Callable[[int], int]
) -> int:
    """Return a count that fits while one more does not, between two measured (count, bytes).

    Bytes grow nearly in proportion, so a straight line finds the place in a few measurements; every third step halves
    the range, so that any other growth takes no more than three times the steps of a bisection.
    """
    step = 0
    while exceeds[0] - fits[0] > 1:
        step += 1
        slope = (exceeds[1] - fits[1]) / (exceeds[0] - fits[0])
        guess = (fits[0] + exceeds[0]) // 2 if step % 3 == 0 else fits[0] + int((limit - fits[1]) / slope)
        count = min(max(guess, fits[0] + 1), exceeds[0] - 1)
        size = measure(count)
        if size <= limit:
            fits = (count, size)
        else:
            exceeds = (count, size)
    return fits[0]
