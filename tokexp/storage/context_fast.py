"""The level `fast`: a table of shares for each pair of group(left) and group(up), coded by plain rANS.

Codes are put into groups that predict alike (`code_groups`). The share of a code is predicted as share * (what the left
group makes of it * what the upper group makes of it) ** weight, and corrected for pairs of groups that have been seen
often enough (`refining`). All of that is small whole numbers in the file; shares are computed from them in whole
numbers when it is opened. How many groups there are is what makes the file smallest.
"""

from dataclasses import dataclass

import numpy as np

from tokexp.storage.code_groups import group_codes
from tokexp.storage.levels import frequencies_of
from tokexp.storage.neighbours import LEFT, UP, count_beside, count_pairs
from tokexp.storage.rans import Tables, bits_for
from tokexp.storage.refining import PER_BIT, TO_LEVELS, code_bits, corrections, order0
from tokexp.storage.table_bytes import Shape, pack_tables

GROUP_COUNTS = (0, 4, 8, 16, 32)
"""Numbers of groups that are tried, in this order, until the file becomes larger. 0: neighbours say nothing.

With more, tables leave a core's cache: 48 groups save 1.5 % of the bytes and take several times as long to decode.
"""

MOST_CELLS = 6_000_000
"""Most shares of all tables: they are held in memory while coding."""

MOST_GROUPS = 255
WEIGHTS = (10, 12, 14, 16)
"""Exponents of the product that are tried, in sixteenths."""

_MOST_PROFILE = 1 << 20
"""What follows a code is counted in as many bins as keep the counts of all codes below this, and at least 64."""


@dataclass(frozen=True)
class FastTables:
    """What is stored: base int8 (codes,); groups uint8 (codes,); left, up int8 (W, codes); pair int8 (W * W, codes).

    W is the number of groups, with one behind them for outside the grid. weight: sixteenths. Corrections are eighths of
    a bit.
    """

    base: np.ndarray
    groups: np.ndarray
    left: np.ndarray
    up: np.ndarray
    pair: np.ndarray
    weight: int

    @property
    def width(self) -> int:
        """Return W."""
        return len(self.left)

    def group_of(self) -> np.ndarray:
        """Return the group of each code and, last, of outside: int32 (codes + 1,)."""
        return np.append(self.groups.astype(np.int32), self.width - 1).astype(np.int32)

    def to_bytes(self) -> bytes:
        """Return what the file holds."""
        return pack_tables([self.base, self.groups, self.left, self.up, self.pair])

    def expanded(self) -> Tables:
        """Return the tables of shares that rANS uses."""
        bits = bits_for(len(self.base))
        product = self.left.astype(np.int32)[:, None] + self.up.astype(np.int32)[None]
        levels = -TO_LEVELS * (self.base.astype(np.int32) + self.pair.astype(np.int32)).reshape(product.shape)
        # Half a level, as eighths of a bit times sixteenths come out at two to a level.
        levels -= (product * self.weight) >> 1
        return Tables.of(frequencies_of(levels.reshape(self.pair.shape), bits), bits)


def stored_shapes(codes: int, width: int) -> list[tuple[np.dtype, Shape]]:
    """Return the types and shapes of what the file holds."""
    small, group = np.dtype(np.int8), np.dtype(np.uint8)
    table = (width, codes)
    return [(small, (codes,)), (group, (codes,)), (small, table), (small, table), (small, (width * width, codes))]


def plain_tables(codes: int) -> FastTables:
    """Return tables that take all codes for equally frequent everywhere."""
    one = np.zeros((1, codes), np.int8)
    return FastTables(one[0], np.zeros(codes, np.uint8), one, one, one, 16)


def fit_fast(tokens: np.ndarray, columns: int, codes: int) -> FastTables:
    """Return the tables that make tokens (N, rows * columns) uint16 smallest, tables counted."""
    profiles = neighbour_profiles(tokens, columns, codes)
    best, fewest = plain_tables(codes), float("inf")
    for groups in GROUP_COUNTS:
        width = groups + 1 if groups else 1
        if width * width * codes > MOST_CELLS or (groups and groups >= 2 * codes):
            break
        tried = _fitted(tokens, columns, codes, group_codes(profiles, groups) if groups else None)
        counts = count_pairs(tokens, columns, tried.group_of(), codes)
        bits = code_bits(counts, np.diff(tried.expanded().cumulative.astype(np.int64), axis=1))
        size = bits + 8 * len(tried.to_bytes())
        if size >= fewest:
            break
        best, fewest = tried, size
    return best


def neighbour_profiles(tokens: np.ndarray, columns: int, codes: int) -> np.ndarray:
    """Return int64 (codes, bins): how often which codes stand to the right of a code and below it."""
    bins = min(codes, max(64, _MOST_PROFILE // codes))
    value_of = (np.arange(codes) % bins).astype(np.int32)
    context_of = np.arange(codes + 1, dtype=np.int32)
    found = [
        count_beside(tokens, columns, *place, context_of, codes + 1, value_of, bins)[:codes] for place in (LEFT, UP)
    ]
    return np.concatenate(found, axis=1)


def _fitted(tokens: np.ndarray, columns: int, codes: int, groups: np.ndarray | None) -> FastTables:
    plain = plain_tables(codes)
    if groups is None:
        counts = count_pairs(tokens, columns, plain.group_of(), codes)
        return FastTables(order0(counts[0]), plain.groups, plain.left, plain.up, plain.pair, plain.weight)
    width = int(groups.max()) + 2
    counts = count_pairs(tokens, columns, np.append(groups, width - 1).astype(np.int32), codes)
    by_side = counts.reshape(width, width, codes)
    base = order0(counts.sum(0))
    known = base[None] / PER_BIT
    left, up = corrections(by_side.sum(1), known), corrections(by_side.sum(0), known)
    empty = np.zeros(counts.shape, np.int8)
    tried = [FastTables(base, groups.astype(np.uint8), left, up, empty, weight) for weight in WEIGHTS]
    shares = [np.diff(tables.expanded().cumulative.astype(np.int64), axis=1) for tables in tried]
    place = int(np.argmin([code_bits(counts, share) for share in shares]))
    pair = corrections(counts, np.log2(shares[place].astype(np.float64)))
    return FastTables(base, tried[place].groups, left, up, pair, WEIGHTS[place])
