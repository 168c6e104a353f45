"""Shares of symbols as a product of what several neighbours say of them, and rANS by those shares.

A symbol is a code, or a group of codes where there are many; the code within its group (`Members`) then follows by
shares of its own. For symbol v beside neighbours n1 (left), n2 (up), n3 (up-left), n4 (up-right), log2 of its share is
base(v) + sum over i of w_i * table_i(n_i, v), up to what makes shares sum to 1. All terms are whole numbers: base in
128ths of a bit, tables in eighths, weights in sixteenths. What a sum weighs is taken as in `levels`; a symbol whose
cumulative weight runs from a to b out of m has the part from a * 2**26 // m to b * 2**26 // m of the coder's total.

Source of the product: Hinton 2002, "Training products of experts", section 1; of the coder: see `rans`.
"""

from dataclasses import dataclass

import numpy as np

from tokexp.storage.compiled import compiled
from tokexp.storage.rans import LOW

NEIGHBOURS = 4
MOST_SYMBOLS = 1024
"""Weights of at most 2**16 then sum to no more than 2**26, so that every symbol has a part of the coder's total."""

MEMBER_BITS = 24
_BITS = 26
_RUN = 32
"""Symbols whose shares are summed at a time when one is looked for."""


@dataclass(frozen=True)
class Members:
    """Which symbol a code belongs to, and its share of it.

    symbol_of: int32 (codes + 1,), the last for outside the grid. codes: uint16, sorted by symbol; those of symbol s are
    codes[start[s] : start[s + 1]]. low, share: uint32 (codes,), parts of 2**24 within a symbol's codes.
    """

    symbol_of: np.ndarray
    codes: np.ndarray
    start: np.ndarray
    low: np.ndarray
    share: np.ndarray


@compiled
def _place(tokens: np.ndarray, image: int, token: int, columns: int, symbol_of: np.ndarray, found: np.ndarray) -> None:
    """Fill found (4,) with the symbols of the left, upper, upper left and upper right neighbour."""
    column = token % columns
    outside = symbol_of[-1]
    up = token >= columns
    found[0] = symbol_of[tokens[image, token - 1]] if column else outside
    found[1] = symbol_of[tokens[image, token - columns]] if up else outside
    found[2] = symbol_of[tokens[image, token - columns - 1]] if up and column else outside
    found[3] = symbol_of[tokens[image, token - columns + 1]] if up and column + 1 < columns else outside


@compiled
def _shares(
    base: np.ndarray, tables: np.ndarray, weights: np.ndarray, context: np.ndarray, sums: np.ndarray, shares: np.ndarray
) -> np.int32:
    """Fill shares (symbols,) int32, all above 0; return their total, at most 2**26. `sums` is room as large."""
    symbols = len(base)
    first, second = tables[0, context[0]], tables[1, context[1]]
    third, fourth = tables[2, context[2]], tables[3, context[3]]
    one, two, three, four = weights[0], weights[1], weights[2], weights[3]
    most = np.int32(-(1 << 30))
    for at in range(symbols):
        level = (
            base[at] + one * np.int32(first[at]) + two * np.int32(second[at])
            + three * np.int32(third[at]) + four * np.int32(fourth[at])
        )  # fmt: skip
        sums[at] = level
        most = max(most, level)
    total = np.int32(0)
    for at in range(symbols):
        level = min((most - sums[at]) >> np.int32(1), np.int32(1151))
        rest = level & np.int32(63)
        # The same as `levels.weight_of`, in 32 bits throughout, so that it becomes vector instructions.
        whole = np.int32(65536) - np.int32(688) * rest + ((np.int32(44) * rest * rest) >> np.int32(4))
        share = max(np.int32(1), whole >> (level >> np.int32(6)))
        shares[at] = share
        total += share
    return total


@compiled
def encode_mixed(
    tokens: np.ndarray, columns: int, base: np.ndarray, tables: np.ndarray, weights: np.ndarray,
    symbol_of: np.ndarray, start: np.ndarray, low: np.ndarray, share: np.ndarray, words: np.ndarray,
) -> int:  # fmt: skip
    """Write the stream of tokens (n, T) uint16 to the end of `words` (2 + 2 * tokens long); return its words.

    base: (symbols,) int32; tables: (4, symbols + 1, symbols) int8; weights: (4,) int32; the others as in `Members`.
    """
    sums, shares = np.empty(len(base), np.int32), np.empty(len(base), np.int32)
    context = np.empty(NEIGHBOURS, np.int64)
    state = np.uint64(LOW)
    place = len(words)
    for image in range(tokens.shape[0] - 1, -1, -1):
        for token in range(tokens.shape[1] - 1, -1, -1):
            _place(tokens, image, token, columns, symbol_of, context)
            total = np.uint64(_shares(base, tables, weights, context, sums, shares))
            code = tokens[image, token]
            symbol = symbol_of[code]
            if start[symbol + 1] - start[symbol] > 1:
                part = np.uint64(share[code])
                if state >= part << np.uint64(63 - MEMBER_BITS):
                    place -= 1
                    words[place] = np.uint32(state & np.uint64(0xFFFFFFFF))
                    state >>= np.uint64(32)
                state = ((state // part) << np.uint64(MEMBER_BITS)) + np.uint64(low[code]) + state % part
            before = np.int32(0)
            for other in range(symbol):
                before += shares[other]
            first = (np.uint64(before) << np.uint64(_BITS)) // total
            part = (np.uint64(before + shares[symbol]) << np.uint64(_BITS)) // total - first
            if state >= part << np.uint64(63 - _BITS):
                place -= 1
                words[place] = np.uint32(state & np.uint64(0xFFFFFFFF))
                state >>= np.uint64(32)
            state = ((state // part) << np.uint64(_BITS)) + first + state % part
    words[place - 1] = np.uint32(state >> np.uint64(32))
    words[place - 2] = np.uint32(state & np.uint64(0xFFFFFFFF))
    return len(words) - place + 2


@compiled
def _find(shares: np.ndarray, mark: np.int32) -> tuple[int, np.int32]:
    """Return the symbol in whose part of the cumulative weights `mark` lies, and the weight before it."""
    symbol = 0
    before = np.int32(0)
    while symbol + _RUN <= len(shares):
        run = np.int32(0)
        for other in range(symbol, symbol + _RUN):
            run += shares[other]
        if before + run > mark:
            break
        before += run
        symbol += _RUN
    while before + shares[symbol] <= mark:
        before += shares[symbol]
        symbol += 1
    return symbol, before


@compiled
def _member(codes: np.ndarray, low: np.ndarray, first: int, last: int, slot: np.uint64) -> np.uint16:
    """Return the code among codes[first:last], in order of their shares, in whose share `slot` lies."""
    while last - first > 1:
        middle = (first + last) // 2
        if np.uint64(low[codes[middle]]) <= slot:
            first = middle
        else:
            last = middle
    found: np.uint16 = codes[first]
    return found


@compiled
def decode_mixed(
    words: np.ndarray, columns: int, base: np.ndarray, tables: np.ndarray, weights: np.ndarray,
    symbol_of: np.ndarray, codes: np.ndarray, start: np.ndarray, low: np.ndarray, share: np.ndarray, tokens: np.ndarray,
) -> bool:  # fmt: skip
    """Fill tokens (n, T) uint16 from a stream of words; tell whether it was one that ends with these tokens."""
    symbols = len(base)
    sums, shares = np.empty(symbols, np.int32), np.empty(symbols, np.int32)
    context = np.empty(NEIGHBOURS, np.int64)
    if len(words) < 2:
        return False
    state = (np.uint64(words[1]) << np.uint64(32)) | np.uint64(words[0])
    place = 2
    for image in range(tokens.shape[0]):
        for token in range(tokens.shape[1]):
            _place(tokens, image, token, columns, symbol_of, context)
            total = np.uint64(_shares(base, tables, weights, context, sums, shares))
            slot = state & np.uint64((1 << _BITS) - 1)
            # The cumulative weight below which the symbol must begin: the exact inverse of the encoder's rounding.
            mark = np.int32(((slot + np.uint64(1)) * total - np.uint64(1)) >> np.uint64(_BITS))
            symbol, before = _find(shares, mark)
            first = (np.uint64(before) << np.uint64(_BITS)) // total
            part = (np.uint64(before + shares[symbol]) << np.uint64(_BITS)) // total - first
            state = part * (state >> np.uint64(_BITS)) + slot - first
            if state < np.uint64(LOW):
                if place == len(words):
                    return False
                state = (state << np.uint64(32)) | np.uint64(words[place])
                place += 1
            code = codes[start[symbol]]
            if start[symbol + 1] - start[symbol] > 1:
                slot = state & np.uint64((1 << MEMBER_BITS) - 1)
                code = _member(codes, low, start[symbol], start[symbol + 1], slot)
                state = np.uint64(share[code]) * (state >> np.uint64(MEMBER_BITS)) + slot - np.uint64(low[code])
                if state < np.uint64(LOW):
                    if place == len(words):
                        return False
                    state = (state << np.uint64(32)) | np.uint64(words[place])
                    place += 1
            tokens[image, token] = code
    return bool(state == np.uint64(LOW) and place == len(words))


@compiled
def mixed_bits(
    tokens: np.ndarray, columns: int, base: np.ndarray, tables: np.ndarray, weights: np.ndarray, symbol_of: np.ndarray
) -> float:
    """Return the bits that the symbols of tokens (n, T) take: for choosing weights and tables, never for coding."""
    sums, shares = np.empty(len(base), np.int32), np.empty(len(base), np.int32)
    context = np.empty(NEIGHBOURS, np.int64)
    bits = 0.0
    for image in range(tokens.shape[0]):
        for token in range(tokens.shape[1]):
            _place(tokens, image, token, columns, symbol_of, context)
            total = _shares(base, tables, weights, context, sums, shares)
            bits -= np.log2(shares[symbol_of[tokens[image, token]]] / total)
    return bits
