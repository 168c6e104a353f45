"""The policy resize: smaller images without loss (or as JPEG), and the largest side that a budget allows."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.storage.reducing.training import Pictures, opened, size_of, stored
from tokexp.errors import InputError
from tokexp.spec.reducing import ResizeReduce
from tokexp.spec.storage import StorageSpec
from tokexp.spec.units import Budget
from tokexp.storage.reducing.resize import build, small_size


def policy(**fields: object) -> object:
    return build(ResizeReduce.model_validate({"kind": "resize", **fields}))


def test_a_factor_makes_both_sides_smaller_and_keeps_the_pixels_of_pillows_filter(tmp_path: Path) -> None:
    training = Pictures()
    store = stored(policy(factor=0.25).reduce(training, StorageSpec()), tmp_path / "a")
    expected = training.image(7).resize((6, 4), Image.Resampling.BICUBIC)
    assert opened(store.item(7)).format == "PNG"
    assert np.array_equal(np.asarray(opened(store.item(7))), np.asarray(expected))


def test_a_side_is_that_of_the_shorter_one_and_never_enlarges() -> None:
    assert small_size((24, 16), None, 8) == (12, 8)
    assert small_size((24, 16), None, 16) == (24, 16)
    assert small_size((24, 16), None, 100) == (24, 16)
    assert small_size((500, 10), 0.01, None) == (5, 1)


def test_small_images_become_jpegs_where_a_quality_is_given(tmp_path: Path) -> None:
    store = stored(policy(side=8, quality=40).reduce(Pictures(), StorageSpec()), tmp_path / "a")
    assert opened(store.item(0)).format == "JPEG"
    assert opened(store.item(0)).size == (12, 8)


@pytest.mark.parametrize("budget", ["9 kB", "200 B/image"])
def test_a_budget_is_kept_and_the_next_side_breaks_it(tmp_path: Path, budget: str) -> None:
    training, limit = Pictures(), Budget.model_validate(budget)
    bytes_allowed = limit.bytes * (30 if limit.per == "image" else 1)
    found = policy().reduce(training, StorageSpec(budget=limit))
    side = int(found.parameter["side"])
    assert 1 < side < 16
    stored(found, tmp_path / "a")
    assert (tmp_path / "a").stat().st_size <= bytes_allowed
    assert size_of(policy(side=side + 1), training, tmp_path / "b") > bytes_allowed


def test_a_budget_never_goes_beyond_the_datas_size(tmp_path: Path) -> None:
    found = policy().reduce(Pictures(), StorageSpec(budget=Budget.model_validate("1 GB")))
    assert found.parameter == {"side": 16.0}


def test_a_budget_below_one_pixel_says_what_is_needed() -> None:
    with pytest.raises(InputError, match="a side of 1, which takes"):
        policy().reduce(Pictures(), StorageSpec(budget=Budget.model_validate("100 B")))
