from hashlib import blake2b

import numpy as np
import pytest

from tokexp.data.splits import divide, divided_counts, held_out_counts, stratified


def test_the_held_out_share_is_rounded_up_over_all_images() -> None:
    assert sum(held_out_counts([178, 182, 177, 183, 181, 182, 181, 179, 174, 180], 0.3)) == 540


def test_a_written_decimal_is_meant_exactly() -> None:
    # 0.1 * 30 is 3.0000000000000004 in binary, which must not become 4.
    assert sum(held_out_counts([10, 10, 10], 0.1)) == 3


def test_largest_remainders_decide_which_classes_give_one_more() -> None:
    # 30 % of 10 are 3; shares are 1.5, 0.9 and 0.6, so the second and third class get the spare ones.
    assert held_out_counts([5, 3, 2], 0.3) == [1, 1, 1]


def test_a_class_keeps_at_least_one_image() -> None:
    assert held_out_counts([1, 1, 8], 0.9) == [0, 0, 7]


def test_no_image_is_held_out_of_nothing_or_by_no_fraction() -> None:
    assert held_out_counts([], 0.5) == []
    assert held_out_counts([4, 4], 0.0) == [0, 0]


def test_kept_and_held_out_are_all_positions_once_in_ascending_order() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2, 2, 2, 0, 1] * 7)
    kept, held = stratified(labels, 0.25, 3, "test")
    assert sorted([*kept, *held]) == list(range(70))
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()


def test_every_class_gives_its_share() -> None:
    labels = np.repeat([0, 1, 2], [10, 20, 40])
    _, held = stratified(labels, 0.3, 0, "test")
    assert np.bincount(labels[held]).tolist() == [3, 6, 12]


def test_seed_and_purpose_change_who_is_held_out() -> None:
    labels = np.repeat([0, 1], 50)
    first = stratified(labels, 0.3, 0, "test")[1]
    assert first.tolist() == stratified(labels, 0.3, 0, "test")[1].tolist()
    assert first.tolist() != stratified(labels, 0.3, 1, "test")[1].tolist()
    assert first.tolist() != stratified(labels, 0.3, 0, "select")[1].tolist()


def test_the_split_is_the_same_on_every_machine() -> None:
    # Golden: a change of this value moves every recorded result.
    held = stratified(np.arange(1000) % 7, 0.3, 5, "select")[1]
    assert blake2b(held.astype("<i8").tobytes(), digest_size=8).hexdigest() == "cde5ffec03108405"


def test_select_is_cut_from_train_and_leaves_test_alone() -> None:
    labels = np.arange(100) % 4
    train, test = np.arange(80), np.arange(80, 100)
    parts = divide(labels, train, test, test_fraction=0.5, select_fraction=0.25, seed=0)
    assert parts["test"].tolist() == test.tolist()
    assert sorted([*parts["train"], *parts["select"]]) == train.tolist()
    assert len(parts["select"]) == 20


@pytest.mark.parametrize("select", [0.0, 0.15])
@pytest.mark.parametrize("cut", [True, False])
def test_counts_without_numpy_equal_those_of_the_split(select: float, cut: bool) -> None:
    labels = np.concatenate([np.repeat([0, 1, 2, 3], [1, 13, 29, 8]), [0, 2, 2]])
    train = np.arange(len(labels)) if cut else np.arange(51)
    test = None if cut else np.arange(51, 54)
    parts = divide(labels, train, test, test_fraction=0.3, select_fraction=select, seed=1)
    counted = divided_counts(
        np.bincount(labels[train]).tolist(), None if test is None else np.bincount(labels[test]).tolist(),
        test_fraction=0.3, select_fraction=select,
    )  # fmt: skip
    assert counted == {name: len(positions) for name, positions in parts.items()}
