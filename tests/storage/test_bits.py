import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokexp.errors import DamagedError
from tokexp.storage import bits


def packed_one_by_one(values: list[int], width: int) -> bytes:
    """Cut every number into pieces of 8, 4, 2, 1 bits from below, and write plane after plane, bit by bit."""
    planes = [8] * (width // 8) + [piece for piece in (4, 2, 1) if width % 8 & piece]
    result = bytearray()
    shift = 0
    for plane in planes:
        stream = "".join(format(value >> shift & (1 << plane) - 1, f"0{plane}b")[::-1] for value in values)
        for start in range(0, len(stream), 8):
            result.append(int(stream[start : start + 8].ljust(8, "0")[::-1], 2))
        shift += plane
    return bytes(result)


numbers = st.integers(0, 16).flatmap(
    lambda width: st.tuples(st.just(width), st.lists(st.integers(0, 2**width - 1), max_size=60))
)


@settings(max_examples=300, deadline=None)
@given(numbers)
def test_packing_equals_a_packer_that_goes_bit_by_bit(case: tuple[int, list[int]]) -> None:
    width, values = case
    packed = bits.pack(np.array(values, np.uint16), width)
    assert packed == packed_one_by_one(values, width)
    assert len(packed) == bits.packed_size(len(values), width)
    assert bits.unpack(packed, len(values), width).tolist() == values


@settings(max_examples=200, deadline=None)
@given(numbers, st.data())
def test_a_range_is_read_without_the_rest(case: tuple[int, list[int]], data: st.DataObject) -> None:
    width, values = case
    stop = data.draw(st.integers(0, len(values)))
    start = data.draw(st.integers(0, stop))
    packed = bits.pack(np.array(values, np.uint16), width)
    assert bits.unpack_range(packed, len(values), width, start, stop).tolist() == values[start:stop]


@pytest.mark.parametrize("width", range(17))
def test_numbers_beyond_one_chunk_come_back(width: int) -> None:
    count = 2 * bits._CHUNK + 13
    values = np.random.default_rng(width).integers(0, 2**width, count).astype(np.uint16)
    packed = bits.pack(values, width)
    assert np.array_equal(bits.unpack(packed, count, width), values)
    start = bits._CHUNK - 3
    found = bits.unpack_range(packed, count, width, start, count - 5)
    assert np.array_equal(found, values[start : count - 5])


@pytest.mark.parametrize(
    ("count", "width"),
    [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (64, 6), (256, 8), (257, 9), (391, 9), (8192, 13), (65536, 16)],
)
def test_the_width_is_the_rounded_up_logarithm(count: int, width: int) -> None:
    assert bits.width_of(count) == width


def test_bits_behind_the_last_number_must_be_zero() -> None:
    packed = bytearray(bits.pack(np.array([1, 0, 1], np.uint16), 1))
    packed[-1] |= 0b1000
    with pytest.raises(DamagedError, match="not zero"):
        bits.unpack(bytes(packed), 3, 1)
