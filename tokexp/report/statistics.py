"""What a few seeds say: means with 95 % intervals, differences paired by seed, and Holm's correction for many of them.

Intervals are Student's t over seeds and tell how much training varies, not how large the test set is. Two cases are
compared on the seeds that both have, seed by seed: what a seed does to both cancels out. One seed gives a number
without an interval, and no test. Values that are not finite count as missing.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

CONFIDENCE: Final = 0.95
"""How often an interval holds the true mean, if the values are normally distributed over seeds."""

ALPHA: Final = 0.05
"""Corrected p below which a difference is called significant."""

_SAME: Final = 1e-12
"""Spread, relative to the values, up to which they count as equal: the rounding of sums, not of any measurement."""

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds. `sd` (n - 1) and the interval `low` to `high` are there from two seeds on."""

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half the width of the interval: what stands behind the plus-minus sign."""
        return None if self.high is None else self.high - self.mean


@dataclass(frozen=True)
class Difference:
    """A mean difference to the baseline over the `seeds` that both have; `unpaired` are those that only one has.

    p: of the two-sided paired t-test; None with one seed, and where every seed differs by the same amount: there is
    no spread to test against, as with a number that no seed decides. Values that vary and are equal have p = 1.
    """

    seeds: tuple[int, ...]
    unpaired: tuple[int, ...]
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def n(self) -> int:
        """Over how many seeds."""
        return len(self.seeds)


def estimate(values: Mapping[int, float]) -> Estimate | None:
    """Return the mean of the values by seed with its interval; None without any finite value."""
    found = [value for _, value in sorted(values.items()) if math.isfinite(value)]
    if not found:
        return None
    mean, sd = _moments(found, max(map(abs, found)))
    if sd is None:
        return Estimate(1, mean)
    half = _half_width(sd, len(found))
    return Estimate(len(found), mean, sd, mean - half, mean + half)


def difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Return how `values` differ from `baseline`, paired by seed; None if no seed has a finite value in both."""
    mine, other = _finite(values), _finite(baseline)
    seeds = tuple(sorted(mine.keys() & other.keys()))
    if not seeds:
        return None
    unpaired = tuple(sorted(mine.keys() ^ other.keys()))
    scale = max(abs(found[seed]) for found in (mine, other) for seed in seeds)
    mean, sd = _moments([mine[seed] - other[seed] for seed in seeds], scale)
    if sd is None:
        return Difference(seeds, unpaired, mean)
    half = _half_width(sd, len(seeds))
    p = _p_value(mean, sd, len(seeds))
    if sd == 0.0 and abs(mean) <= _SAME * scale and len({mine[seed] for seed in seeds}) > 1:
        p = 1.0
    return Difference(seeds, unpaired, mean, sd, mean - half, mean + half, p)


def holm(p_values: Mapping[Name, float | None]) -> dict[Name, float | None]:
    """Return each p corrected for how many there are, by Holm's step-down method; what has no p stays without.

    The smallest of m values is multiplied by m, the next by m - 1, and so on; none gets below the one before it.
    """
    known = sorted((p, place, name) for place, (name, p) in enumerate(p_values.items()) if p is not None)
    found: dict[Name, float | None] = dict.fromkeys(p_values)
    least = 0.0
    for rank, (p, _, name) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        found[name] = least
    return found


def _finite(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def _moments(values: Sequence[float], scale: float) -> tuple[float, float | None]:
    """Return the mean and, from two values on, the standard deviation, which is 0 if it is nothing but rounding."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return mean, sd if sd > _SAME * scale else 0.0


def _half_width(sd: float, n: int) -> float:
    from scipy.special import stdtrit  # Not scipy.stats: it takes a second to load.

    return float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * sd / math.sqrt(n) if sd else 0.0


def _p_value(mean: float, sd: float, n: int) -> float | None:
    from scipy.special import stdtr

    return min(1.0, 2 * float(stdtr(n - 1, -abs(mean) / (sd / math.sqrt(n))))) if sd else None
