"""rANS with a 64-bit state: symbols to 32-bit words and back, each by a share f / 2**bits of its context's table.

Source: Duda 2013, "Asymmetric numeral systems", section 3; words as in Giesen 2014, "Interleaved entropy coders".
The state x stays in [2**31, 2**63). A symbol with frequency f and cumulative frequency c below a total m turns x into
(x // f) * m + c + x % f; before that, words of 32 bits leave x until the result fits. Decoding is the exact reverse, so
tokens are coded last to first and a stream reads first to last: 2 words of the last state, then the words. Decoding
must end at the state 2**31 with no word left, which is nearly never so by chance. Whole numbers alone: all CPUs agree.

A table of contexts and codes is `Tables`: rows of frequencies above 0 that sum to 2**bits - 1, so that cumulative ones
fit 16 bits where the total does: tables that stay in a core's cache decode several times faster. The last place is
unused.
"""

from dataclasses import dataclass

import numpy as np

from tokexp.storage.compiled import compiled

LOW = 1 << 31
"""The smallest state, with which every stream begins."""

MOST_BITS = 24
"""The largest table total is 2**24: a state keeps at least 7 bits above it."""

_BUCKETS = 6
LANES = 4
"""Streams that are decoded side by side."""


@dataclass(frozen=True)
class Tables:
    """cumulative: uint16 or uint32 (contexts, codes + 1). first: a code not above that of each 64th of the total."""

    cumulative: np.ndarray
    first: np.ndarray
    bits: int

    @classmethod
    def of(cls, frequencies: np.ndarray, bits: int) -> "Tables":
        """Take frequencies (contexts, codes), whole numbers above 0, each row summing to 2**bits - 1."""
        shape = (len(frequencies), frequencies.shape[1] + 1)
        cumulative = np.zeros(shape, np.uint16 if bits <= 16 else np.uint32)
        np.cumsum(frequencies, axis=1, out=cumulative[:, 1:])
        return cls(cumulative, _first_codes(cumulative, bits), bits)

    def decode(self, words: np.ndarray, columns: int, groups: np.ndarray, tokens: np.ndarray) -> bool:
        """Fill tokens (n, T) from a stream of words; see `decode_rows`."""
        return decode_rows(words, columns, groups, self.cumulative, self.first, self.bits, tokens)

    def decode_all(
        self, words: np.ndarray, bounds: np.ndarray, columns: int, groups: np.ndarray, tokens: np.ndarray, together: int
    ) -> bool:
        """Fill tokens (N, T) from streams of `together` images each, four at a time; see `decode_lanes`."""
        number, size = 0, together * LANES
        for at in range(0, len(tokens) - size + 1, size):
            four = tokens[at : at + size].reshape(LANES, together, -1)
            own = bounds[number : number + LANES + 1]
            if not decode_lanes(words, own, columns, groups, self.cumulative, self.first, self.bits, four):
                return False
            number += LANES
        rest = range(number * together, len(tokens), together)
        return all(
            self.decode(words[bounds[n] : bounds[n + 1]], columns, groups, tokens[at : at + together])
            for n, at in enumerate(rest, number)
        )


def bits_for(num_codes: int) -> int:
    """Return the bits of a table's total: 16, or more where the 1 that each code gets would take above 1 % of it."""
    return 16 if num_codes <= 512 else min(MOST_BITS, (num_codes - 1).bit_length() + 8)


@compiled
def _first_codes(cumulative: np.ndarray, bits: int) -> np.ndarray:
    contexts, codes = cumulative.shape[0], cumulative.shape[1] - 1
    first = np.zeros((contexts, 1 << _BUCKETS), np.uint16)
    for context in range(contexts):
        code = 0
        for bucket in range(1 << _BUCKETS):
            while code + 1 < codes and np.int64(cumulative[context, code + 1]) <= bucket << (bits - _BUCKETS):
                code += 1
            first[context, bucket] = code
    return first


@compiled
def encode_rows(
    tokens: np.ndarray, columns: int, groups: np.ndarray, cumulative: np.ndarray, bits: int, words: np.ndarray
) -> int:
    """Write the stream of tokens (n, T) uint16 to the end of `words` and return its number of words.

    groups: (codes + 1,) int32, the group of each code and, last, of what lies outside the grid; a token's context is
    group(left) * (largest group + 1) + group(up). `words` must hold 2 + 2 * tokens.
    """
    count, size = tokens.shape
    outside = groups[-1]
    width = groups.max() + 1
    state = np.uint64(LOW)
    place = len(words)
    shift = np.uint64(63 - bits)
    for image in range(count - 1, -1, -1):
        for token in range(size - 1, -1, -1):
            left = groups[tokens[image, token - 1]] if token % columns else outside
            up = groups[tokens[image, token - columns]] if token >= columns else outside
            context = left * width + up
            code = np.int64(tokens[image, token])
            low = np.uint64(cumulative[context, code])
            share = np.uint64(cumulative[context, code + 1]) - low
            if state >= share << shift:
                place -= 1
                words[place] = np.uint32(state & np.uint64(0xFFFFFFFF))
                state >>= np.uint64(32)
            state = ((state // share) << np.uint64(bits)) + low + state % share
    words[place - 1] = np.uint32(state >> np.uint64(32))
    words[place - 2] = np.uint32(state & np.uint64(0xFFFFFFFF))
    return len(words) - place + 2


@compiled
def _code_at(slot: np.uint64, context: int, cumulative: np.ndarray, first: np.ndarray, bits: int) -> np.int64:
    """Return the code in whose part of a context's total `slot` lies."""
    code = np.int64(first[context, slot >> np.uint64(bits - _BUCKETS)])
    last = cumulative.shape[1] - 2
    while code < last and np.uint64(cumulative[context, code + 1]) <= slot:
        code += 1
    return code


@compiled
def decode_rows(
    words: np.ndarray, columns: int, groups: np.ndarray, cumulative: np.ndarray, first: np.ndarray, bits: int,
    tokens: np.ndarray,
) -> bool:  # fmt: skip
    """Fill tokens (n, T) uint16 from a stream of words; tell whether it was one that ends with these tokens."""
    outside = groups[-1]
    width = groups.max() + 1
    if len(words) < 2:
        return False
    state = (np.uint64(words[1]) << np.uint64(32)) | np.uint64(words[0])
    place = 2
    mask = np.uint64((1 << bits) - 1)
    for image in range(tokens.shape[0]):
        for token in range(tokens.shape[1]):
            left = groups[tokens[image, token - 1]] if token % columns else outside
            up = groups[tokens[image, token - columns]] if token >= columns else outside
            context = left * width + up
            slot = state & mask
            code = _code_at(slot, context, cumulative, first, bits)
            low = np.uint64(cumulative[context, code])
            state = (np.uint64(cumulative[context, code + 1]) - low) * (state >> np.uint64(bits)) + slot - low
            if state < np.uint64(LOW):
                if place == len(words):
                    return False
                state = (state << np.uint64(32)) | np.uint64(words[place])
                place += 1
            tokens[image, token] = code
    return bool(state == np.uint64(LOW) and place == len(words))


@compiled
def decode_lanes(
    words: np.ndarray, bounds: np.ndarray, columns: int, groups: np.ndarray, cumulative: np.ndarray, first: np.ndarray,
    bits: int, tokens: np.ndarray,
) -> bool:  # fmt: skip
    """Fill tokens (4, n, T) uint16 from four streams, words[bounds[i]:bounds[i + 1]]; tell whether all were such.

    Their steps do not wait for one another's tables, which hides most of the time that memory takes.
    """
    outside = groups[-1]
    width = groups.max() + 1
    mask = np.uint64((1 << bits) - 1)
    state, place = np.empty(LANES, np.uint64), np.empty(LANES, np.int64)
    for lane in range(LANES):
        if bounds[lane + 1] - bounds[lane] < 2:
            return False
        begin = bounds[lane]
        state[lane] = (np.uint64(words[begin + 1]) << np.uint64(32)) | np.uint64(words[begin])
        place[lane] = begin + 2
    for image in range(tokens.shape[1]):
        for token in range(tokens.shape[2]):
            for lane in range(LANES):
                left = groups[tokens[lane, image, token - 1]] if token % columns else outside
                up = groups[tokens[lane, image, token - columns]] if token >= columns else outside
                context = left * width + up
                now = state[lane]
                slot = now & mask
                code = _code_at(slot, context, cumulative, first, bits)
                low = np.uint64(cumulative[context, code])
                now = (np.uint64(cumulative[context, code + 1]) - low) * (now >> np.uint64(bits)) + slot - low
                if now < np.uint64(LOW):
                    if place[lane] == bounds[lane + 1]:
                        return False
                    now = (now << np.uint64(32)) | np.uint64(words[place[lane]])
                    place[lane] += 1
                state[lane] = now
                tokens[lane, image, token] = code
    sound = True
    for lane in range(LANES):
        sound &= state[lane] == np.uint64(LOW) and place[lane] == bounds[lane + 1]
    return sound
