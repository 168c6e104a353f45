"""The policy distilled: made images and soft labels are imported, counted, and checked against the data."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.storage.reducing.training import Pictures, opened, stored
from tokexp.errors import DataError
from tokexp.spec.reducing import DistilledReduce
from tokexp.spec.storage import StorageSpec
from tokexp.storage.reducing.base import Reduced
from tokexp.storage.reducing.distilled import build

ROWS = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.25, 0.5, 0.25], [1.0, 0.0, 0.0]], np.float32)


def made() -> np.ndarray:
    return np.random.default_rng(3).random((4, 3, 16, 16)).astype(np.float32)


def imported(folder: Path, arrays: dict[str, np.ndarray], **fields: object) -> Reduced:
    np.savez(folder / "set.npz", **arrays)
    spec = DistilledReduce.model_validate({"kind": "distilled", "file": str(folder / "set.npz"), **fields})
    return build(spec).reduce(Pictures(), StorageSpec())


def test_images_become_pngs_of_eight_bits_and_labels_the_largest_share(tmp_path: Path) -> None:
    images = made()
    store = stored(imported(tmp_path, {"images": images, "soft_labels": ROWS}), tmp_path / "a")
    assert store.labels.tolist() == [0, 2, 1, 0]
    found = np.asarray(opened(store.item(2))).transpose(2, 0, 1)
    assert np.array_equal(found, np.rint(255 * images[2]).astype(np.uint8))


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("float32", 4)])
def test_floats_are_kept_and_counted_as_they_are_stored(tmp_path: Path, dtype: str, size: int) -> None:
    images = made()
    arrays = {"images": images, "soft_labels": ROWS}
    store = stored(imported(tmp_path, arrays, pixels=dtype, soft_labels=dtype), tmp_path / "a")
    assert np.array_equal(store.numbers(1), images[1].astype(dtype).astype(np.float32))
    assert store.soft_labels is not None
    assert np.array_equal(store.soft_labels, ROWS.astype(dtype).astype(np.float32))
    assert store.accounting.pixels == 4 * 3 * 16 * 16 * size
    assert store.accounting.soft_labels == 4 * 3 * size
    assert store.accounting.total == (tmp_path / "a").stat().st_size


def test_soft_labels_can_be_left_out(tmp_path: Path) -> None:
    arrays = {"images": made(), "labels": np.array([0, 1, 2, 0]), "soft_labels": ROWS}
    store = stored(imported(tmp_path, arrays, soft_labels="none"), tmp_path / "a")
    assert store.soft_labels is None
    assert store.accounting.soft_labels == 0
    assert store.labels.tolist() == [0, 1, 2, 0]


def test_safetensors_hold_the_same(tmp_path: Path) -> None:
    arrays = {"images": (255 * made()).astype(np.uint8), "labels": np.array([2, 1, 0, 0])}
    save_file(arrays, tmp_path / "set.safetensors")
    spec = DistilledReduce(kind="distilled", file=str(tmp_path / "set.safetensors"))
    store = stored(build(spec).reduce(Pictures(), StorageSpec()), tmp_path / "a")
    assert np.array_equal(np.asarray(opened(store.item(3))).transpose(2, 0, 1), arrays["images"][3])
    assert store.labels.tolist() == [2, 1, 0, 0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"images": np.zeros((4, 3, 8, 8), np.float32)}, r"images: \(4, 3, 8, 8\) given; .* are \(N, 3, 16, 16\)"),
        ({"images": made() * 4 - 2}, r"images: values from -.* floats are pixels in \[0, 1\]"),
        ({"images": np.full((4, 3, 16, 16), np.nan, np.float32)}, "images: values from nan"),
        ({"images": np.zeros((4, 3, 16, 16), np.int64)}, "images: int64 given"),
        ({"labels": np.array([0, 1, 2, 3])}, "labels: from 0 to 3; the data have 3 classes"),
        ({"labels": np.array([0, 1, 2])}, r"labels: int64 \(3,\) given; 4 whole numbers"),
        ({"soft_labels": ROWS[:, :2]}, r"soft_labels: float32 \(4, 2\) given; floats \(4, 3\) are needed"),
        ({"soft_labels": 3 * ROWS}, "soft_labels: each row must be probabilities"),
    ],
)
def test_arrays_that_do_not_fit_the_data_are_named(tmp_path: Path, change: dict[str, np.ndarray], said: str) -> None:
    arrays = {"images": made(), "labels": np.array([0, 1, 2, 0]), "soft_labels": ROWS} | change
    with pytest.raises(DataError, match=said):
        imported(tmp_path, arrays)


def test_missing_arrays_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no array `images`"):
        imported(tmp_path, {"labels": np.array([0])})
    with pytest.raises(DataError, match="neither `labels`"):
        imported(tmp_path, {"images": made()})
    for name, said in (("a.npz", r"it is no \.npz file"), ("a.pt", r"is a \.npz or \.safetensors file")):
        (tmp_path / name).write_bytes(b"PK nothing")
        with pytest.raises(DataError, match=said):
            build(DistilledReduce(kind="distilled", file=str(tmp_path / name))).reduce(Pictures(), StorageSpec())
