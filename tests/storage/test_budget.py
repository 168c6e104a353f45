from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokexp.errors import InputError
from tokexp.spec.storage import StorageSpec
from tokexp.spec.units import Budget
from tokexp.storage.budget import UNUSED, fit_budget, keep_order

label_lists = st.lists(st.integers(0, 5), max_size=60).map(lambda labels: np.array(labels, np.int64))


@settings(max_examples=200, deadline=None)
@given(label_lists, st.integers(0, 2**40))
def test_the_order_holds_every_image_once(labels: np.ndarray, seed: int) -> None:
    assert sorted(keep_order(labels, seed).tolist()) == list(range(len(labels)))


@settings(max_examples=200, deadline=None)
@given(label_lists, st.integers(0, 1000))
def test_every_first_part_is_as_balanced_as_the_classes_permit(labels: np.ndarray, seed: int) -> None:
    ordered = labels[keep_order(labels, seed)]
    whole = np.bincount(labels, minlength=6)
    for length in range(len(labels) + 1):
        counts = np.bincount(ordered[:length], minlength=6)
        open_classes = counts[counts < whole]
        if len(open_classes):
            assert counts.max() - open_classes.min() <= 1


def test_the_order_is_fixed_by_the_seed_and_changes_with_it() -> None:
    labels = np.arange(200) % 4
    assert np.array_equal(keep_order(labels, 3), keep_order(labels, 3))
    assert not np.array_equal(keep_order(labels, 3), keep_order(labels, 4))


def test_the_order_of_a_seed_never_changes() -> None:
    labels = np.array([0, 1, 1, 2, 0, 1, 2, 1])
    assert keep_order(labels, 0).tolist() == GOLDEN


def test_the_images_of_a_class_are_not_taken_in_the_files_order() -> None:
    assert keep_order(np.zeros(50, np.int64), 0).tolist() != list(range(50))


def budget(text: str) -> StorageSpec:
    return StorageSpec(budget=Budget.model_validate(text))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=300), st.integers(0, 100), st.integers(1, 6000))
def test_what_is_kept_fits_and_one_more_does_not(growth: list[int], fixed: int, limit: int) -> None:
    sizes = [fixed + int(size) for size in np.cumsum(growth)]
    if sizes[0] > limit:
        with pytest.raises(InputError, match=f"smallest possible store takes {sizes[0]} bytes"):
            fit_budget(budget(f"{limit} B"), len(sizes), lambda count: sizes[count - 1])
        return
    kept = fit_budget(budget(f"{limit} B"), len(sizes), lambda count: sizes[count - 1])
    assert sizes[kept - 1] <= limit
    assert kept == len(sizes) or sizes[kept] > limit


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=100), st.integers(0, 500))
def test_what_is_kept_fits_even_where_more_images_take_fewer_bytes(sizes: list[int], extra: int) -> None:
    limit = sizes[0] + extra
    kept = fit_budget(budget(f"{limit} B"), len(sizes), lambda count: sizes[count - 1])
    assert 1 <= kept <= len(sizes)
    assert sizes[kept - 1] <= limit


def counted(measure: Callable[[int], int]) -> tuple[Callable[[int], int], list[int]]:
    calls: list[int] = []

    def measured(count: int) -> int:
        calls.append(count)
        return measure(count)

    return measured, calls


def test_sizes_in_proportion_take_few_measurements() -> None:
    measure, calls = counted(lambda count: 900 + 1152 * count)
    assert fit_budget(budget("700 MB"), 1_281_167, measure) == (700_000_000 - 900) // 1152
    assert len(calls) <= 6


def test_sizes_that_jump_take_no_more_than_three_bisections() -> None:
    measure, calls = counted(lambda count: 1 if count < 777 else 10**9)
    assert fit_budget(budget("1 kB"), 1_000_000, measure) == 776
    assert len(calls) <= 2 + 3 * 21


def test_a_budget_per_image_counts_the_sources_images() -> None:
    assert fit_budget(budget("10 B/image"), 100, lambda count: 20 * count) == 50


@pytest.mark.parametrize(("fraction", "kept"), [(0.5, 50), (0.014, 1), (0.0001, 1), (1.0, 100), (0.016, 2)])
def test_a_fraction_is_rounded_and_keeps_at_least_one_image(fraction: float, kept: int) -> None:
    def measure(count: int) -> int:
        raise AssertionError("nothing to measure")

    assert fit_budget(StorageSpec(fraction=fraction), 100, measure) == kept


def test_without_a_bound_everything_is_kept() -> None:
    assert fit_budget(StorageSpec(), 7, lambda count: count) == 7


GOLDEN = [0, 3, 2, 4, 6, 1, 7, 5]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(0, 100), st.integers(1, 6000))
def test_a_close_search_never_exceeds_the_budget_and_leaves_little(growth: list[int], fixed: int, limit: int) -> None:
    sizes = [fixed + int(size) for size in np.cumsum(growth)]
    measure, calls = counted(lambda count: sizes[count - 1])
    if sizes[0] > limit:
        with pytest.raises(InputError, match=f"smallest possible store takes {sizes[0]} bytes"):
            fit_budget(budget(f"{limit} B"), len(sizes), measure, closely=True)
        return
    kept = fit_budget(budget(f"{limit} B"), len(sizes), measure, closely=True)
    assert sizes[kept - 1] <= limit
    spare = max(limit * UNUSED, sizes[kept - 1] / kept)
    assert kept == len(sizes) or sizes[kept] > limit or limit - sizes[kept - 1] <= spare
    assert len(calls) == len(set(calls))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=100), st.integers(0, 500))
def test_a_close_search_ends_where_more_images_take_fewer_bytes(sizes: list[int], extra: int) -> None:
    limit = sizes[0] + extra
    measure, calls = counted(lambda count: sizes[count - 1])
    kept = fit_budget(budget(f"{limit} B"), len(sizes), measure, closely=True)
    assert sizes[kept - 1] <= limit
    assert len(calls) <= len(sizes)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_a_close_search_measures_few_stores_and_none_much_larger(share: float) -> None:
    def size(count: int) -> int:
        # Tables, and images that become cheaper as the tables are fitted on more of them.
        return round(60_000 + 960 * count + 4000 * count**0.7)

    limit = round(share * size(1_281_167))
    measure, calls = counted(size)
    kept = fit_budget(budget(f"{limit} B"), 1_281_167, measure, closely=True)
    assert limit * (1 - UNUSED) <= size(kept) <= limit
    assert len(calls) <= 4
    assert sum(calls) <= 3 * kept + 4096
