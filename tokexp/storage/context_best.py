"""The level `best`: for each token a product of what its left, upper, upper left and upper right neighbour say.

Each neighbour has a table of corrections (`refining`) to how frequent a symbol is: first by the neighbour's group, then
by the neighbour itself, each where the data are enough. Up to 1,024 codes each is a symbol; more codes are put into 256
groups that are the symbols, and the code within a group has its order-0 share. How far it goes is what makes the file
smallest.
"""

from dataclasses import dataclass, replace

import numpy as np

from tokexp.storage.code_groups import group_codes
from tokexp.storage.context_fast import neighbour_profiles
from tokexp.storage.levels import frequencies_of
from tokexp.storage.mixing import MEMBER_BITS, MOST_SYMBOLS, NEIGHBOURS, Members, mixed_bits
from tokexp.storage.neighbours import LEFT, UP, UP_LEFT, UP_RIGHT, count_beside
from tokexp.storage.refining import PER_BIT, TO_LEVELS, corrections, order0
from tokexp.storage.table_bytes import Shape, pack_tables

SYMBOLS = 256
"""Groups that stand for codes where there are more than 1,024 of them."""

GROUP_COUNTS = (8, 32, 64)
"""Numbers of groups of neighbours that are tried; with the last also tables for each single neighbour."""

_PLACES = (LEFT, UP, UP_LEFT, UP_RIGHT)
_START, _MOST = (12, 10, 6, 8), 24
_SAMPLE_TOKENS = 1 << 16
_ROUNDS = 2
_BASE_SCALE = 16
"""The mixing adds in 128ths of a bit; `base` is stored in eighths."""


@dataclass(frozen=True)
class BestTables:
    """What is stored; W groups with one for outside the grid, S symbols.

    base: int8 (S,) corrections of equal shares. groups: uint8 (S,), the group of a symbol as a neighbour. by_group:
    int8 (4, W, S). single: int8 (4, S + 1, S) further corrections by each neighbour, or (4, 0, S). weights: sixteenths.
    symbols: uint16 (codes,), the symbol of a code, and members: int8 (codes,), corrections within a symbol; both empty
    if each code is a symbol.
    """

    base: np.ndarray
    groups: np.ndarray
    by_group: np.ndarray
    single: np.ndarray
    symbols: np.ndarray
    members: np.ndarray
    weights: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Return what the file holds."""
        return pack_tables([self.base, self.groups, self.by_group, self.single, self.symbols, self.members])

    def split(self) -> Members:
        """Return which codes a symbol has, and their shares of it."""
        return _split(self.symbols if len(self.symbols) else np.arange(len(self.base)), self.members, len(self.base))

    def levels(self) -> np.ndarray:
        """Return how frequent symbols are, int32 (S,) in 128ths of a bit."""
        return self.base.astype(np.int32) * _BASE_SCALE

    def full(self) -> np.ndarray:
        """Return the tables int8 (4, S + 1, S) by each neighbour."""
        group_of = np.append(self.groups.astype(np.int64), self.by_group.shape[1] - 1)
        expanded = self.by_group[:, group_of].astype(np.int16)
        if self.single.shape[1]:
            expanded = expanded + self.single
        return np.clip(expanded, -127, 127).astype(np.int8)


def stored_shapes(codes: int, symbols: int, width: int, single: bool) -> list[tuple[np.dtype, Shape]]:
    """Return the types and shapes of what the file holds."""
    small, per_code = np.dtype(np.int8), (codes if symbols != codes else 0,)
    return [
        (small, (symbols,)), (np.dtype(np.uint8), (symbols,)), (small, (NEIGHBOURS, width, symbols)),
        (small, (NEIGHBOURS, symbols + 1 if single else 0, symbols)), (np.dtype(np.uint16), per_code),
        (small, per_code),
    ]  # fmt: skip


def plain_tables(codes: int) -> BestTables:
    """Return tables that take all codes for equally frequent everywhere."""
    symbols, members = np.empty(0, np.uint16), np.empty(0, np.int8)
    count = codes
    if codes > MOST_SYMBOLS:
        count = SYMBOLS
        symbols, members = (np.arange(codes) % SYMBOLS).astype(np.uint16), np.zeros(codes, np.int8)
    return _without_neighbours(np.zeros(count, np.int8), symbols, members)


def _without_neighbours(base: np.ndarray, symbols: np.ndarray, members: np.ndarray) -> BestTables:
    count = len(base)
    nothing, none = np.zeros((NEIGHBOURS, 1, count), np.int8), np.empty((NEIGHBOURS, 0, count), np.int8)
    return BestTables(base, np.zeros(count, np.uint8), nothing, none, symbols, members, (0,) * NEIGHBOURS)


def fit_best(tokens: np.ndarray, columns: int, codes: int) -> BestTables:
    """Return the tables that make tokens (N, rows * columns) uint16 smallest, tables counted."""
    start = _fit_symbols(tokens, columns, codes)
    symbol_of = start.split().symbol_of
    count = len(start.base)
    beside = [count_beside(tokens, columns, *place, symbol_of, count + 1, symbol_of[:-1], count) for place in _PLACES]
    sample = tokens[:: max(1, tokens.size // _SAMPLE_TOKENS)]
    best, fewest = start, _size(start, sample, columns, tokens.size)
    for groups, single in [(groups, False) for groups in GROUP_COUNTS] + [(GROUP_COUNTS[-1], True)]:
        tried = _tuned(_fitted(start, beside, groups, single), sample, columns)
        size = _size(tried, sample, columns, tokens.size)
        if size < fewest:
            best, fewest = tried, size
    return best


def _fit_symbols(tokens: np.ndarray, columns: int, codes: int) -> BestTables:
    """Return tables without neighbours: order 0."""
    flat = tokens.reshape(-1)
    counts = np.bincount(flat, minlength=codes) if len(flat) else np.zeros(codes, np.int64)
    if codes <= MOST_SYMBOLS:
        plain = plain_tables(codes)
        return _without_neighbours(order0(counts), plain.symbols, plain.members)
    symbols = group_codes(neighbour_profiles(tokens, columns, codes), SYMBOLS)
    sums = np.bincount(symbols, weights=counts)
    predicted = -np.log2(np.bincount(symbols))[symbols]
    within = np.log2(np.maximum(sums, 1e-9) / max(1, len(flat)))
    members = corrections(counts[None], (predicted + within[symbols])[None], strength=1.0)[0]
    return _without_neighbours(order0(sums), symbols.astype(np.uint16), members)


def _fitted(start: BestTables, beside: list[np.ndarray], groups: int, single: bool) -> BestTables:
    count = len(start.base)
    group_of = group_codes(np.concatenate([beside[0][:count], beside[1][:count]], axis=1), groups)
    width = int(group_of.max()) + 2
    whole = np.append(group_of, width - 1)
    known = start.base[None] / PER_BIT
    by_group = np.zeros((NEIGHBOURS, width, count), np.int8)
    own = np.zeros((NEIGHBOURS, count + 1 if single else 0, count), np.int8)
    for place, counts in enumerate(beside):
        sums = np.zeros((width, count), np.int64)
        np.add.at(sums, whole, counts)
        by_group[place] = corrections(sums, known)
        if single:
            own[place] = corrections(counts, known + by_group[place][whole] / PER_BIT)
    return BestTables(start.base, group_of.astype(np.uint8), by_group, own, start.symbols, start.members, _START)


def _tuned(tables: BestTables, sample: np.ndarray, columns: int) -> BestTables:
    """Return the tables with the weights that code the sample best, found one after another."""
    levels, full, symbol_of = tables.levels(), tables.full(), tables.split().symbol_of

    def bits(weights: list[int]) -> float:
        return mixed_bits(sample, columns, levels, full, np.array(weights, np.int32), symbol_of)

    chosen = list(tables.weights)
    fewest = bits(chosen)
    for _ in range(_ROUNDS):
        for place in range(NEIGHBOURS):
            for step in (2, -2, 1, -1):
                moved = list(chosen)
                moved[place] += step
                while 0 <= moved[place] <= _MOST and (found := bits(moved)) < fewest:
                    chosen, fewest = list(moved), found
                    moved[place] += step
    return replace(tables, weights=tuple(chosen))


def _size(tables: BestTables, sample: np.ndarray, columns: int, tokens: int) -> float:
    """Return the bits of tables and of what the sample says all tokens take."""
    weights = np.array(tables.weights, np.int32)
    bits = mixed_bits(sample, columns, tables.levels(), tables.full(), weights, tables.split().symbol_of)
    return bits * tokens / max(1, sample.size) + 8 * len(tables.to_bytes())


def _split(symbols: np.ndarray, members: np.ndarray, count: int) -> Members:
    codes = np.argsort(symbols, kind="stable").astype(np.uint16)
    sizes = np.bincount(symbols, minlength=count)
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    low, share = np.zeros(len(codes), np.uint32), np.full(len(codes), 1 << MEMBER_BITS, np.uint32)
    for symbol in np.flatnonzero(sizes > 1):
        own = codes[start[symbol] : start[symbol + 1]]
        share[own] = frequencies_of(-TO_LEVELS * members[own].astype(np.int32)[None], MEMBER_BITS)[0]
        low[own] = np.cumsum(share[own], dtype=np.uint32) - share[own]
    return Members(np.append(symbols, count).astype(np.int32), codes, start, low, share)
