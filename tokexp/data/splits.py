"""Stratified splits that come out alike on every machine and under every version of numpy.

An image is held out if its random key is among the smallest of its class. Keys are the raw 64-bit words of PCG64
(O'Neill 2014), the part of numpy's random numbers that is promised never to change; numpy's `permutation` is not. How
many images of a class are held out is integer arithmetic (largest remainders), so it needs no random numbers at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Purpose = Literal["test", "select"]

_STREAMS: dict[Purpose, int] = {"test": 0, "select": 1}


def held_out_counts(class_counts: Sequence[int], fraction: float) -> list[int]:
    """Return how many images of each class are held out.

    The sum is `fraction` of all images rounded up; every class gives its share rounded down, and classes with the
    largest remainders (the first of equals) give one more. A class always keeps at least one image.
    """
    total = sum(class_counts)
    if total == 0 or fraction <= 0:
        return [0] * len(class_counts)
    # The decimal that was written is meant, not the binary number next to it.
    exact = Fraction(str(fraction)) * total
    held = -(-exact.numerator // exact.denominator)
    shares = [divmod(count * held, total) for count in class_counts]
    spare = held - sum(whole for whole, _ in shares)
    favoured = set(sorted(range(len(shares)), key=lambda place: -shares[place][1])[:spare])
    wanted = [whole + (place in favoured) for place, (whole, _) in enumerate(shares)]
    return [min(want, max(0, count - 1)) for want, count in zip(wanted, class_counts, strict=True)]


def stratified(labels: np.ndarray, fraction: float, seed: int, purpose: Purpose) -> tuple[np.ndarray, np.ndarray]:
    """Return (kept, held out): ascending positions into labels (N,), classes in equal shares.

    `purpose` separates the random keys of the test split from those of the select split.
    """
    import numpy as np

    num_classes = int(labels.max()) + 1 if len(labels) else 0
    class_counts = np.bincount(labels, minlength=num_classes)
    wanted = np.asarray(held_out_counts(class_counts.tolist(), fraction), dtype=np.int64)
    keys = np.random.PCG64(np.random.SeedSequence([seed, _STREAMS[purpose]])).random_raw(len(labels))
    order = np.lexsort((keys, labels))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(class_counts) - class_counts, class_counts)
    held = np.zeros(len(labels), dtype=bool)
    held[order] = rank < wanted[labels[order]]
    return np.flatnonzero(~held), np.flatnonzero(held)


def divide(
    labels: np.ndarray, train: np.ndarray, test: np.ndarray | None, *, test_fraction: float, select_fraction: float,
    seed: int,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return positions by split name: `train`, `test` and, if its fraction is above 0, `select` (part of train).

    `train` and `test` are the positions that a set comes with; without `test`, it is cut from `train`.
    """
    if test is None:
        kept, held = stratified(labels[train], test_fraction, seed, "test")
        train, test = train[kept], train[held]
    if select_fraction <= 0:
        return {"train": train, "test": test}
    kept, held = stratified(labels[train], select_fraction, seed, "select")
    return {"train": train[kept], "test": test, "select": train[held]}


def divided_counts(
    train: Sequence[int], test: Sequence[int] | None, *, test_fraction: float, select_fraction: float
) -> dict[str, int]:
    """Return images by split for the images per class, as `divide` would cut them, without numpy."""
    if test is None:
        test = held_out_counts(train, test_fraction)
        train = [count - held for count, held in zip(train, test, strict=True)]
    counts = {"train": sum(train), "test": sum(test)}
    if select_fraction > 0:
        counts["select"] = sum(held_out_counts(train, select_fraction))
        counts["train"] -= counts["select"]
    return counts
