"""The policy jpeg: Pillow's JPEG of each image, and the largest quality that a budget allows."""

import io
from pathlib import Path

import numpy as np
import pytest

from tests.storage.reducing.training import Pictures, opened, size_of, stored
from tokexp.errors import InputError
from tokexp.spec.reducing import JpegReduce
from tokexp.spec.storage import StorageSpec
from tokexp.spec.units import Budget
from tokexp.storage.budget import keep_order
from tokexp.storage.reducing.jpeg import build


def policy(**fields: object) -> object:
    return build(JpegReduce.model_validate({"kind": "jpeg", **fields}))


def test_every_image_is_pillows_jpeg_at_the_size_of_its_file(tmp_path: Path) -> None:
    training = Pictures()
    store = stored(policy(quality=30).reduce(training, StorageSpec()), tmp_path / "a")
    buffer = io.BytesIO()
    training.image(4).save(buffer, "JPEG", quality=30, subsampling="4:2:0", optimize=True)
    assert store.item(4) == buffer.getvalue()
    assert opened(store.item(4)).size == (24, 16)
    assert store.labels.tolist() == training.labels.tolist()


def test_grey_images_stay_grey(tmp_path: Path) -> None:
    store = stored(policy(quality=30).reduce(Pictures(channels=1), StorageSpec()), tmp_path / "a")
    assert opened(store.item(0)).mode == "L"


@pytest.mark.parametrize("budget", ["14 kB", "450 B/image", "16000 B"])
def test_a_budget_is_kept_and_the_next_quality_breaks_it(tmp_path: Path, budget: str) -> None:
    training, limit = Pictures(), Budget.model_validate(budget)
    bytes_allowed = limit.bytes * (30 if limit.per == "image" else 1)
    found = policy().reduce(training, StorageSpec(budget=limit))
    quality = int(found.parameter["quality"])
    assert 1 < quality < 95
    stored(found, tmp_path / "a")
    assert (tmp_path / "a").stat().st_size <= bytes_allowed
    assert size_of(policy(quality=quality + 1), training, tmp_path / "b") > bytes_allowed


def test_what_a_budget_comes_to_is_what_the_quality_alone_would_be(tmp_path: Path) -> None:
    training = Pictures()
    solved = policy().reduce(training, StorageSpec(budget=Budget.model_validate("14 kB")))
    stored(solved, tmp_path / "a")
    size_of(policy(quality=int(solved.parameter["quality"])), training, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_budget_for_anything_takes_the_best_quality(tmp_path: Path) -> None:
    found = policy().reduce(Pictures(), StorageSpec(budget=Budget.model_validate("1 GB")))
    assert found.parameter == {"quality": 95.0}


def test_a_budget_below_the_worst_quality_says_what_is_needed(tmp_path: Path) -> None:
    training = Pictures()
    least = size_of(policy(quality=1), training, tmp_path / "a")
    with pytest.raises(InputError, match=f"quality 1, which takes {least} bytes"):
        policy().reduce(training, StorageSpec(budget=Budget.model_validate(f"{least - 1} B")))
    assert policy().reduce(training, StorageSpec(budget=Budget.model_validate(f"{least} B"))).parameter["quality"] >= 1


def test_a_fraction_keeps_the_images_that_tokens_would_keep(tmp_path: Path) -> None:
    training = Pictures()
    found = policy(quality=20).reduce(training, StorageSpec(fraction=0.3, seed=4))
    assert found.positions is not None
    assert found.positions.tolist() == sorted(keep_order(training.labels, 4)[:9].tolist())
    assert np.bincount(found.labels).tolist() == [3, 3, 3]
