from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tokexp.errors import DamagedError, InputError
from tokexp.spec.storage import PackedCodec, SeitCodec
from tokexp.storage import store as module
from tokexp.storage.store import TokenStore, write_store

KINDS = ["packed", "seit", "zstd", "rans0", "rans_context", "rans_context:best"]
PACKED, SEIT = PackedCodec(kind="packed"), SeitCodec(kind="seit")
CODES = np.arange(6, dtype=np.float32).reshape(3, 2)
Maker = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("images", [0, 1, 5])
@pytest.mark.parametrize("num_codes", [1, 2, 300])
def test_a_store_gives_back_what_was_written(make_store: Maker, kind: str, images: int, num_codes: int) -> None:
    path, content = make_store(images=images, num_codes=num_codes, kind=kind)
    store = TokenStore.open(path)
    assert np.array_equal(store.indices(), content["indices"])
    assert store.indices().dtype == np.uint16
    assert np.array_equal(store.labels, content["labels"])
    assert np.array_equal(store.codes, content["codes"])
    assert store.codes.dtype == np.float32
    assert (store.grid, store.num_images, store.num_codes) == ((2, 3), images, num_codes)
    assert (store.num_classes, store.metric, store.facts) == (3, "cosine", {"note": "a"})
    store.verify()


@settings(max_examples=40, deadline=None)
@given(
    indices=arrays.arrays(np.uint16, st.tuples(st.integers(0, 7), st.integers(1, 6), st.integers(1, 6))),
    classes=st.sampled_from([1, 2, 10, 1000, 65_536]),
    data=st.data(),
)
def test_any_grid_of_any_indices_comes_back(
    tmp_path_factory: pytest.TempPathFactory, indices: np.ndarray, classes: int, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("store") / "a.tokens"
    labels = data.draw(arrays.arrays(np.int64, len(indices), elements=st.integers(0, classes - 1)))
    codes = np.zeros((65_536, 1), np.float32)
    write_store(path, indices, labels, codes, PACKED, metric="euclidean", num_classes=classes)
    store = TokenStore.open(path)
    assert np.array_equal(store.indices(), indices)
    assert np.array_equal(store.labels, labels)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_and_single_images_are_parts_of_the_whole(
    make_store: Maker, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_BLOCK", 4)
    path, content = make_store(images=10, kind=kind)
    store = TokenStore.open(path)
    assert store.num_blocks == (1 if kind == "seit" else 3)
    parts = np.concatenate([store.block(number) for number in range(store.num_blocks)])
    assert np.array_equal(parts, content["indices"])
    for position in range(10):
        assert np.array_equal(store.image(position), content["indices"][position])


@pytest.mark.parametrize("position", [-1, 5])
def test_an_image_or_block_that_is_not_there_is_an_index_error(make_store: Maker, position: int) -> None:
    store = TokenStore.open(make_store(images=5)[0])
    with pytest.raises(IndexError):
        store.image(position)
    with pytest.raises(IndexError):
        store.block(position)


def test_equal_content_gives_equal_files(make_store: Maker) -> None:
    for kind in KINDS:
        path, _ = make_store(kind=kind)
        first = path.read_bytes()
        make_store(kind=kind)
        assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"indices": np.zeros((2, 4), np.uint16)}, "images, rows, columns"),
        ({"indices": np.zeros((2, 2, 2))}, "whole numbers"),
        ({"indices": np.full((2, 2, 2), 3, np.uint16)}, "0 to 2"),
        ({"labels": np.zeros(3, np.int64)}, "as many whole labels"),
        ({"labels": np.array([0, 4])}, "0 to 3"),
        ({"labels": np.array([0, -1])}, "0 to 3"),
        ({"codes": np.full((3, 2), np.nan, np.float32)}, "finite"),
        ({"num_classes": 70_000}, "65,536 classes"),
        ({"implicit_codebook": True}, "fsq_levels"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_leaves_no_file(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    given = {"indices": np.zeros((2, 2, 2), np.uint16), "labels": np.array([0, 3]), "codes": CODES, "num_classes": 4}
    with pytest.raises(InputError, match=words):
        write_store(tmp_path / "a.tokens", **{**given, **change}, codec_spec=PACKED, metric="euclidean")
    assert list(tmp_path.iterdir()) == []


def test_an_index_refused_in_a_later_block_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_BLOCK", 2)
    indices = np.zeros((5, 1, 1), np.uint16)
    indices[4] = 3
    with pytest.raises(InputError):
        write_store(
            tmp_path / "a", indices, np.zeros(5, np.int64), CODES, PACKED, metric="euclidean", num_classes=1
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_computable_codes_take_no_byte_when_all_are_in_use(tmp_path: Path) -> None:
    codes = fsq_codes_by_hand([3, 4])
    accounting = write_implicit(tmp_path / "a", codes)
    assert accounting.codebook == 0
    assert np.array_equal(TokenStore.open(tmp_path / "a").codes, codes)


def test_computable_codes_take_a_bit_each_when_some_are_in_use(tmp_path: Path) -> None:
    codes = fsq_codes_by_hand([3, 4])[[0, 4, 5, 11]]
    accounting = write_implicit(tmp_path / "a", codes)
    assert accounting.codebook == 2
    assert np.array_equal(TokenStore.open(tmp_path / "a").codes, codes)


def test_codes_that_the_levels_do_not_give_are_refused(tmp_path: Path) -> None:
    codes = fsq_codes_by_hand([3, 4])
    for wrong in (codes + 0.1, codes[::-1]):
        with pytest.raises(InputError, match="fsq_levels"):
            write_implicit(tmp_path / "a", wrong)


@pytest.mark.parametrize("content", [b"", b"no store", b"PK\3\4" * 20])
def test_another_file_is_not_taken_for_a_store(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match="not a token store"):
        TokenStore.open(tmp_path / "a")


def test_a_missing_file_and_a_folder_are_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing.tokens.*No such file"):
        TokenStore.open(tmp_path / "missing.tokens")
    with pytest.raises(InputError, match="cannot be read"):
        TokenStore.open(tmp_path)


def test_a_damaged_block_is_found_when_it_is_read_and_not_before(make_store: Maker) -> None:
    path, _ = make_store()
    data = bytearray(path.read_bytes())
    data[-1] ^= 16
    path.write_bytes(data)
    store = TokenStore.open(path)
    for read in (store.indices, store.verify, lambda: store.block(0), lambda: store.image(0)):
        with pytest.raises(DamagedError, match="damaged"):
            read()


def test_damage_that_came_after_reading_is_found_by_verifying(make_store: Maker) -> None:
    path, _ = make_store()
    store = TokenStore.open(path)
    store.indices()
    store.verify()
    with path.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    with pytest.raises(DamagedError):
        store.verify()


def fsq_codes_by_hand(levels: list[int]) -> np.ndarray:
    """Return one row per index; a dimension of L levels counts from -(L // 2), divided by L // 2; first is fastest."""
    rows = [[]]
    for count in reversed(levels):
        values = [(step - count // 2) / (count // 2) for step in range(count)]
        rows = [[value, *row] for row in rows for value in values]
    return np.array(rows, np.float32)


def write_implicit(path: Path, codes: np.ndarray) -> module.Accounting:
    indices = np.arange(4, dtype=np.uint16).reshape(1, 2, 2)
    return write_store(
        path, indices, np.zeros(1, np.int64), codes, PACKED, metric="euclidean", num_classes=1,
        implicit_codebook=True, facts={"fsq_levels": [3, 4]},
    )  # fmt: skip
