"""The entropy coders against references in unbounded whole numbers, and against constriction's ANS coder."""

from itertools import pairwise

import constriction
import numpy as np
import pytest

from tokexp.registry import implementation
from tokexp.spec.storage import Rans0Codec, RansContextCodec
from tokexp.storage.codecs.rans_context import BestContext, FastContext
from tokexp.storage.context_best import fit_best
from tokexp.storage.levels import frequencies_of, weight_of
from tokexp.storage.rans import bits_for


def skewed(num_codes: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    draws = np.random.default_rng(seed).random(shape) ** 3
    return (draws * num_codes).astype(np.uint16)


def smooth(num_codes: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Tokens that are like the one on the left or above, most of the time."""
    generator = np.random.default_rng(5)
    tokens = generator.integers(0, num_codes, shape)
    for row in range(shape[1]):
        for column in range(shape[2]):
            kept = generator.random(shape[0])
            if column:
                tokens[:, row, column] = np.where(kept < 0.4, tokens[:, row, column - 1], tokens[:, row, column])
            if row:
                tokens[:, row, column] = np.where(kept > 0.6, tokens[:, row - 1, column], tokens[:, row, column])
    return tokens.astype(np.uint16)


def test_weights_are_powers_of_two_within_half_a_percent() -> None:
    for level in range(64 * 10):
        wanted = 65536 * 2 ** (-level / 64)
        assert abs(weight_of(level) - wanted) <= 1 + 0.004 * wanted
    assert weight_of(64 * 40) == 1


def test_frequencies_follow_their_levels_and_fill_the_total() -> None:
    levels = np.random.default_rng(0).integers(-500, 500, (5, 300)).astype(np.int32)
    found = frequencies_of(levels, 16).astype(np.int64)
    assert (found.sum(axis=1) == 2**16 - 1).all()
    assert found.min() >= 1
    wanted = 2.0 ** (-levels / 64)
    wanted *= (2**16 - 301) / wanted.sum(axis=1, keepdims=True)
    # What rounding down leaves goes to the largest of a row.
    found[np.arange(5), found.argmax(axis=1)] = wanted[np.arange(5), found.argmax(axis=1)]
    assert (np.abs(found - 1 - wanted) <= 2 + 0.01 * wanted).all()


def decode_by_hand(data: bytes, tables: list[list[int]], bits: int, count: int) -> list[int]:
    """Undo rANS with one table of frequencies for each token, in unbounded whole numbers."""
    words = np.frombuffer(data, "<u4").tolist()
    state, words = words[0] + (words[1] << 32), words[2:]
    found = []
    for place in range(count):
        slot, low, code = state % 2**bits, 0, 0
        while slot >= low + tables[place][code]:
            low += tables[place][code]
            code += 1
        share = tables[place][code]
        state = share * (state // 2**bits) + slot - low
        if state < 2**31:
            state = (state << 32) + words.pop(0)
        found.append(code)
    assert (state, words) == (2**31, [])
    return found


@pytest.mark.parametrize("num_codes", [2, 30, 600])
def test_an_order_0_stream_is_rans_by_the_stored_frequencies(num_codes: int) -> None:
    tokens = skewed(num_codes, (3, 4, 4))
    codec = implementation("codecs", "rans0")(Rans0Codec(kind="rans0"), None, num_codes, 16)
    codec.fit(tokens)
    bits = bits_for(num_codes)
    table = frequencies_of(-8 * codec._base[None].astype(np.int32), bits)[0].tolist()
    data = codec.encode_stream(tokens.reshape(3, 16))
    assert decode_by_hand(data, [table] * 48, bits, 48) == tokens.ravel().tolist()


def test_an_order_0_stream_is_as_short_as_constrictions() -> None:
    tokens = skewed(300, (16, 32, 32))
    codec = implementation("codecs", "rans0")(Rans0Codec(kind="rans0"), None, 300, 1024)
    codec.fit(tokens)
    shares = np.bincount(tokens.ravel(), minlength=300) / tokens.size
    coder = constriction.stream.stack.AnsCoder()
    model = constriction.stream.model.Categorical(shares, perfect=False)
    coder.encode_reverse(tokens.ravel().astype(np.int32), model)
    theirs = 4 * len(coder.get_compressed())
    ours = len(codec.encode_stream(tokens.reshape(16, 1024)))
    assert ours == pytest.approx(theirs, rel=0.003)


def test_a_fast_stream_is_rans_by_the_groups_of_left_and_up() -> None:
    tokens = smooth(40, (400, 6, 7))
    codec = FastContext(40, 42)
    codec.fit(tokens)
    stored = codec._stored
    assert stored.width > 1
    groups, width = stored.groups.tolist(), stored.width
    product = stored.left.astype(int)[:, None] + stored.up.astype(int)[None]
    levels = -8 * (stored.base.astype(int) + stored.pair.reshape(width, width, 40)) - (product * stored.weight) // 2
    tables = frequencies_of(levels.reshape(-1, 40).astype(np.int32), 16).tolist()
    some = tokens[7:9]
    wanted = []
    for image in some.tolist():
        for row in range(6):
            for column in range(7):
                left = groups[image[row][column - 1]] if column else width - 1
                up = groups[image[row - 1][column]] if row else width - 1
                wanted.append(tables[left * width + up])
    data = codec.encode_stream(some.reshape(2, 42))
    assert decode_by_hand(data, wanted, 16, 84) == some.ravel().tolist()


def shares_by_hand(codec: BestContext, image: list[list[int]], row: int, column: int) -> list[int]:
    """Return the parts of 2**26 of every code, by the formula of the product."""
    stored = codec._stored
    count, columns = len(stored.base), len(image[0])
    group_of = [*stored.groups.tolist(), stored.by_group.shape[1] - 1]
    sums = [16 * int(value) for value in stored.base]
    for place, (up, right) in enumerate([(0, -1), (1, 0), (1, -1), (1, 1)]):
        beside = count
        if row - up >= 0 and 0 <= column + right < columns:
            beside = image[row - up][column + right]
        for code in range(count):
            value = int(stored.by_group[place, group_of[beside], code])
            if stored.single.shape[1]:
                value += int(stored.single[place, beside, code])
            sums[code] += stored.weights[place] * max(-127, min(127, value))
    weights = [weight_of((max(sums) - level) >> 1) for level in sums]
    edges = [sum(weights[:code]) * 2**26 // sum(weights) for code in range(count + 1)]
    return [above - below for below, above in pairwise(edges)]


def test_a_best_stream_is_rans_by_the_product_of_four_neighbours() -> None:
    tokens = smooth(24, (600, 5, 6))
    codec = BestContext(24, 30)
    codec.fit(tokens)
    assert any(codec._stored.weights)
    some = tokens[3:5]
    wanted = [
        shares_by_hand(codec, image, row, column) for image in some.tolist() for row in range(5) for column in range(6)
    ]
    data = codec.encode_stream(some.reshape(2, 30))
    assert decode_by_hand(data, wanted, 26, 60) == some.ravel().tolist()


def test_neighbours_save_bytes_where_they_tell_something() -> None:
    tokens = smooth(50, (2000, 8, 8))
    sizes = {}
    for name, spec in {
        "rans0": Rans0Codec(kind="rans0"),
        "fast": RansContextCodec(kind="rans_context"),
        "best": RansContextCodec(kind="rans_context", level="best"),
    }.items():
        codec = implementation("codecs", spec.kind)(spec, None, 50, 64)
        codec.fit(tokens)
        sizes[name] = len(codec.tables()) + len(codec.encode(tokens.reshape(2000, 64)))
    assert sizes["fast"] < 0.75 * sizes["rans0"]
    assert sizes["best"] < 1.02 * sizes["fast"]


def test_neighbours_that_tell_nothing_cost_nothing() -> None:
    tokens = skewed(50, (300, 8, 8))
    plain = implementation("codecs", "rans0")(Rans0Codec(kind="rans0"), None, 50, 64)
    plain.fit(tokens)
    for codec in (FastContext(50, 64), BestContext(50, 64)):
        codec.fit(tokens)
        size = len(codec.tables()) + len(codec.encode(tokens.reshape(300, 64)))
        assert size < 1.01 * (len(plain.tables()) + len(plain.encode(tokens.reshape(300, 64)))) + 64


def test_every_neighbour_may_have_tables_of_its_own() -> None:
    pairs = np.random.default_rng(2).permutation(80)
    tokens = np.empty((3000, 4, 4), np.int64)
    tokens[..., 0] = np.random.default_rng(3).integers(0, 80, (3000, 4))
    for column in range(1, 4):
        tokens[..., column] = pairs[tokens[..., column - 1]]
    found = fit_best(tokens.reshape(3000, 16).astype(np.uint16), 4, 80)
    assert found.single.shape == (4, 81, 80)
