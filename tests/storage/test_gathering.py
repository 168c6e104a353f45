"""Rows gathered from an array of tokens are those that indexing gives, whatever their number, order and width."""

import numpy as np
import pytest

from tokexp.storage.gathering import AHEAD, gather


def tokens(images: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (images, width)).astype(np.uint16)


@pytest.mark.parametrize("kind", [np.uint16, np.int64])
@pytest.mark.parametrize("width", [1, 31, 96, 1024])
@pytest.mark.parametrize("count", [0, 1, AHEAD, AHEAD + 1, 100])
def test_rows_are_those_of_indexing_in_the_order_asked_for(kind: type, width: int, count: int) -> None:
    array = tokens(50, width)
    positions = np.random.default_rng(1).integers(0, 50, count)
    out = np.full((count, width), 7, kind)
    gather(array, positions, out)
    assert np.array_equal(out, array[positions].astype(kind))


def test_tokens_above_32767_stay_positive_when_widened() -> None:
    out = np.empty((2, 2), np.int64)
    gather(np.array([[0, 65535], [32768, 1]], np.uint16), np.array([1, 0]), out)
    assert out.tolist() == [[32768, 1], [0, 65535]]


@pytest.mark.parametrize("position", [-1, 3])
def test_a_position_outside_the_array_is_refused(position: int) -> None:
    with pytest.raises(IndexError, match="of 3 rows"):
        gather(tokens(3, 4), np.array([0, position]), np.empty((2, 4), np.int64))


@pytest.mark.parametrize(
    ("array", "positions", "out"),
    [
        (tokens(3, 4), np.zeros(2, np.int64), np.empty((2, 3), np.int64)),
        (tokens(3, 4), np.zeros(2, np.int64), np.empty((1, 4), np.int64)),
        (tokens(3, 4), np.zeros(2, np.int32), np.empty((2, 4), np.int64)),
        (tokens(3, 4), np.zeros(2, np.int64), np.empty((2, 4), np.int32)),
        (tokens(3, 8)[:, ::2], np.zeros(2, np.int64), np.empty((2, 4), np.int64)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(array: np.ndarray, positions: np.ndarray, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="do not go into"):
        gather(array, positions, out)


def test_a_mapped_file_is_read_like_memory(tmp_path) -> None:
    array = tokens(20, 64)
    array.tofile(tmp_path / "a.u16")
    mapped = np.memmap(tmp_path / "a.u16", "<u2", "c", shape=(20, 64))
    out = np.empty((20, 64), np.uint16)
    gather(mapped, np.arange(20)[::-1].copy(), out)
    assert np.array_equal(out, array[::-1])
