"""The value of a policy's parameter that fits a budget: measured on the images themselves, not estimated."""

from collections.abc import Callable, Sequence

from tokexp.errors import InputError


def largest_fitting(values: Sequence[int], measure: Callable[[int], int], limit: float, what: str) -> int:
    """Return a value whose store fits `limit` bytes while the next one's does not; the last one if that fits.

    values: ascending, and with them the bytes. measure: value to bytes; it is called for a logarithmic number of
    them. Raises InputError if even the first is too much.
    """
    if measure(values[-1]) <= limit:
        return values[-1]
    least = measure(values[0])
    if least > limit:
        raise InputError(
            f"storage.budget: {limit:.0f} bytes do not hold the images even with {what} {values[0]}, which takes "
            f"{least} bytes; give at least that, or keep fewer images (storage.reduce of the kind fraction)"
        )
    fits, exceeds = 0, len(values) - 1
    while exceeds - fits > 1:
        middle = (fits + exceeds) // 2
        if measure(values[middle]) <= limit:
            fits = middle
        else:
            exceeds = middle
    return values[fits]
