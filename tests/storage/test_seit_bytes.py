"""SeiT's byte rule, its gzip stream and its offsets; the sheet's tests S1 to S4."""

import gzip
import io
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokexp.errors import DamagedError, InputError
from tokexp.storage import seit_bytes

TABLE = {0: [0], 254: [254], 255: [255, 0], 256: [255, 1], 390: [255, 135], 509: [255, 254]}


def one_by_one(image: list[int]) -> list[int]:
    """Return the bytes of an image by the rule: v below 255 is [v], else [255, v - 255]."""
    return [byte for value in image for byte in ([value] if value < 255 else [255, value - 255])]


def read_one_by_one(stream: bytes) -> list[int]:
    """Return the indices of bytes: a 255 is added to the byte behind it."""
    values, carry = [], 0
    for byte in stream:
        if byte == 255:
            carry = 255
            continue
        values.append(byte + carry)
        carry = 0
    return values


@pytest.mark.parametrize(("value", "expected"), TABLE.items())
def test_the_released_bytes_of_an_index_both_ways(value: int, expected: list[int]) -> None:
    stream, lengths = seit_bytes.escape(np.array([[value]]))
    assert stream.tolist() == expected
    assert lengths.tolist() == [len(expected)]
    assert seit_bytes.unescape(np.array(expected, np.uint8)).tolist() == [value]


images = st.integers(1, 40).flatmap(
    lambda tokens: st.lists(
        st.lists(st.integers(0, 509) | st.sampled_from([254, 255, 256, 509]), min_size=tokens, max_size=tokens),
        max_size=8,
    ).map(lambda rows: (tokens, rows))
)


@settings(max_examples=200, deadline=None)
@given(images)
def test_random_indices_equal_a_reader_and_a_writer_that_go_byte_by_byte(case: tuple[int, list[list[int]]]) -> None:
    tokens, rows = case
    indices = np.array(rows, np.uint16).reshape(len(rows), tokens)
    blob, offsets = seit_bytes.compress(indices, 6)
    stream = gzip.decompress(blob)
    assert list(stream) == [byte for row in rows for byte in one_by_one(row)]
    assert [read_one_by_one(stream[a:b]) for a, b in pairwise(offsets)] == rows
    assert seit_bytes.decompress(blob, offsets, len(rows), tokens).tolist() == rows


@pytest.mark.parametrize("value", [510, 511, 65535, -1])
def test_an_index_of_510_or_more_is_refused(value: int) -> None:
    with pytest.raises(InputError, match="0 to 509"):
        seit_bytes.escape(np.array([[3, value]]))


def test_offsets_never_fall_and_end_at_the_streams_length() -> None:
    indices = np.random.default_rng(0).integers(0, 391, (2500, 16))
    blob, offsets = seit_bytes.compress(indices, 9)
    assert offsets[0] == 0
    assert (np.diff(offsets) >= 16).all()
    assert offsets[-1] == len(gzip.decompress(blob))
    assert np.array_equal(seit_bytes.decompress(blob, offsets, 2500, 16), indices)


@pytest.mark.parametrize("stream", [[255], [1, 255], [255, 255, 3], [4, 255, 255, 0]])
def test_an_escape_without_an_index_behind_it_is_damage(stream: list[int]) -> None:
    with pytest.raises(DamagedError, match="escape"):
        seit_bytes.unescape(np.array(stream, np.uint8))


def test_images_of_unequal_length_are_damage_even_if_the_sum_fits() -> None:
    blob = gzip.compress(bytes([1, 2, 3, 4, 5, 6]))
    assert seit_bytes.decompress(blob, np.array([0, 3, 6]), 2, 3).tolist() == [[1, 2, 3], [4, 5, 6]]
    for offsets in ([0, 2, 6], [0, 3, 5], [1, 3, 6], [0, 6], [0, 7, 6]):
        with pytest.raises(DamagedError, match="offsets"):
            seit_bytes.decompress(blob, np.array(offsets), 2, 3)


def test_a_stream_of_too_many_tokens_is_damage() -> None:
    blob = gzip.compress(bytes(7))
    with pytest.raises(DamagedError, match="tokens"):
        seit_bytes.decompress(blob, np.array([0, 7]), 1, 6)


def test_a_stream_that_unpacks_to_far_more_is_stopped_early() -> None:
    with pytest.raises(DamagedError, match="too long"):
        seit_bytes.gunzip(gzip.compress(bytes(10_000_000)), 100)


def test_the_compressed_bytes_carry_no_time_and_the_index_reads_as_numpy() -> None:
    blob, offsets = seit_bytes.compress(np.arange(32).reshape(2, 16), 9)
    index = seit_bytes.gzip_array(offsets, 9)
    assert blob[4:8] == index[4:8] == bytes(4)
    assert np.load(io.BytesIO(gzip.decompress(index))).tolist() == [0, 16, 32]
    assert seit_bytes.gunzip_offsets(index, 2).tolist() == [0, 16, 32]


@pytest.mark.parametrize(
    "array", [np.zeros(4, np.int64), np.zeros((3, 1), np.int64), np.zeros(3), np.array(["a", "b", "c"])]
)
def test_an_index_that_is_no_list_of_offsets_is_damage(array: np.ndarray) -> None:
    with pytest.raises(DamagedError, match="offsets"):
        seit_bytes.gunzip_offsets(seit_bytes.gzip_array(array, 9), 2)
    with pytest.raises(DamagedError, match="NumPy"):
        seit_bytes.gunzip_offsets(gzip.compress(b"no array"), 2)
