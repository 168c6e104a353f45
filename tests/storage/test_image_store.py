"""The image store: lossless, every byte counted, damage found."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokexp.errors import DamagedError, InputError, TokexpError
from tokexp.storage.image_blocks import block_places, join_block, table_size
from tokexp.storage.image_store import ImageHeader, ImageStore, account, write_images


def write(path: Path, count: int = 7, classes: int = 3, soft: bool = True) -> tuple[list[bytes], np.ndarray]:
    generator = np.random.default_rng(5)
    items = [generator.bytes(int(length)) for length in generator.integers(0, 40, count)]
    shares = generator.dirichlet(np.ones(classes), count).astype(np.float32)
    header = ImageHeader(images=count, classes=classes, soft="float32" if soft else None, facts={"reduce": "jpeg"})
    write_images(path, header, np.arange(count) % classes, iter(items), shares if soft else None)
    return items, shares


def read_everything(path: Path) -> None:
    store = ImageStore.open(path)
    for place in range(store.num_images):
        store.item(place)


def test_everything_comes_back_as_it_was_written(tmp_path: Path) -> None:
    items, shares = write(tmp_path / "a.images")
    store = ImageStore.open(tmp_path / "a.images")
    assert [store.item(place) for place in range(7)] == items
    assert store.labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert np.array_equal(store.soft_labels, shares)
    assert store.header.facts == {"reduce": "jpeg"}


@pytest.mark.parametrize("count", [0, 1, 7, 1024, 1025, 2500])
@pytest.mark.parametrize("soft", [False, True])
def test_the_parts_of_the_accounting_are_the_bytes_of_the_file(tmp_path: Path, count: int, soft: bool) -> None:
    items, _ = write(tmp_path / "a.images", count, soft=soft)
    found = ImageStore.open(tmp_path / "a.images").accounting
    assert found.total == (tmp_path / "a.images").stat().st_size
    assert found.pixels == sum(map(len, items))
    assert found.soft_labels == (4 * 3 * count if soft else 0)
    assert found.labels == -(-2 * count // 8)  # three classes: two bits for each image
    assert found.images == count


@pytest.mark.parametrize("count", [0, 1, 1024, 2500])
def test_the_size_is_known_before_anything_is_written(tmp_path: Path, count: int) -> None:
    items, _ = write(tmp_path / "a.images", count)
    header = ImageStore.open(tmp_path / "a.images").header
    known = account(header, np.array([len(item) for item in items], np.int64))
    assert known == ImageStore.open(tmp_path / "a.images").accounting


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 3, 200, 65_535, 65_536, 70_000, 200_000]), min_size=1, max_size=12))
def test_a_block_finds_every_image_whatever_their_lengths(lengths: list[int]) -> None:
    items = [bytes([number % 251]) * length for number, length in enumerate(lengths)]
    block = np.frombuffer(join_block(items), np.uint8)
    places = block_places(block, len(items))
    assert [block[start:end].tobytes() for start, end in pairwise(places)] == items
    assert len(block) == table_size(np.array(lengths)) + sum(lengths)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.images"
    write(path, 3)
    data = path.read_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 64
        path.write_bytes(flipped)
        with pytest.raises(TokexpError):
            read_everything(path)


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.images"
    write(path, 3)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedError, match="length"):
        ImageStore.open(path)


def test_a_token_store_is_no_image_store_and_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "train.tokens").write_bytes(b"\x89TOKEXP\n" + bytes(60))
    with pytest.raises(InputError, match=r"not a store of images: .*train\.images"):
        ImageStore.open(tmp_path / "train.tokens")


def test_bare_numbers_come_back_with_their_shape(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).random((4, 3, 5, 5)).astype(np.float16)
    header = ImageHeader(images=4, classes=2, encoding="raw", shape=(3, 5, 5), dtype="float16")
    write_images(tmp_path / "a.images", header, np.zeros(4, np.int64), (image.tobytes() for image in pixels))
    store = ImageStore.open(tmp_path / "a.images")
    assert np.array_equal(store.numbers(2), pixels[2].astype(np.float32))
    # Equal lengths need no table beyond the five bytes that a block begins with.
    assert store.accounting.index == 3 * 24 + 5


def test_labels_that_do_not_fit_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    header = ImageHeader(images=2, classes=2)
    for labels in (np.array([0, 2]), np.array([0]), np.array([-1, 0])):
        with pytest.raises(InputError, match="labels"):
            write_images(tmp_path / "a.images", header, labels, [b"a", b"b"])
    assert not (tmp_path / "a.images").exists()
