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


UNUSED = 1 / 1024
"""Share of a budget that a close search may leave unused; an image's bytes where these are more."""

_PILOT = 1024


def fit_budget(spec: StorageSpec, num_images: int, measure: Callable[[int], int], *, closely: bool = False) -> int:
    """Return how many of `num_images` images are kept.

    `measure(count)` gives the bytes of a store of the first `count` images. With a budget, the result fits it and one
    image more does not; `closely`, it fits and leaves at most a 1,024th of the budget, or an image's bytes, in far
    fewer measurements, none of them of many more images than are kept. Raises InputError if one image is too much.
    """
    if num_images == 0:
        return 0
    if spec.fraction is not None:
        return min(num_images, max(1, round(spec.fraction * num_images)))
    if spec.budget is None:
        return num_images
    limit = spec.budget.bytes * (num_images if spec.budget.per == "image" else 1)
    if closely:
        return _close(limit, num_images, measure)
    most = measure(num_images)
    if most <= limit:
        return num_images
    least = measure(1) if num_images > 1 else most
    if least > limit:
        raise _too_little(limit, least)
    return _largest_fitting(limit, (1, least), (num_images, most), measure)


def _too_little(limit: float, least: int) -> InputError:
    return InputError(
        f"storage.budget: {limit:.0f} bytes do not hold a single image; "
        f"the smallest possible store takes {least} bytes, so give at least that"
    )


Measured = tuple[int, int]
"""Images, and the bytes of a store of them."""


def _close(limit: float, num_images: int, measure: Callable[[int], int]) -> int:
    """Return a count that fits and leaves little unused, from measurements near it.

    The first is of a small part; straight lines through what was measured lead to a place somewhat below the limit.
    Every fifth step doubles what fits or halves the range, whatever the lines say.
    """
    fits, before, high, count, step = (0, 0), (0, 0), num_images + 1, min(num_images, _PILOT), 0
    while True:
        size, step = measure(count), step + 1
        slope = max((size - before[1]) / (count - before[0]), 1e-9)
        if size <= limit:
            fits = (count, size)
        elif count == 1:
            raise _too_little(limit, size)
        else:
            high = count
        spare = max(limit * UNUSED, fits[1] / max(1, fits[0]))
        if fits[0] and (fits[0] + 1 == high or limit - fits[1] <= spare):
            return fits[0]
        guess = count + int((limit - spare / 2 - size) / slope)
        if step % 5 == 0:
            guess = 2 * fits[0] if high > num_images else (fits[0] + high) // 2
        before, count = (count, size), min(max(guess, fits[0] + 1), high - 1)


def _largest_fitting(limit: float, fits: Measured, exceeds: Measured, measure: Callable[[int], int]) -> int:
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
