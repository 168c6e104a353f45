"""The policy fraction: files taken over as they are, subsets nested, the most images that a budget allows."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.storage.reducing.training import Pictures, opened, size_of, stored
from tokexp.errors import InputError
from tokexp.spec.reducing import FractionReduce
from tokexp.spec.storage import StorageSpec
from tokexp.spec.units import Budget
from tokexp.storage.reducing.fraction import Fraction, build


def policy(**fields: object) -> Fraction:
    return build(FractionReduce.model_validate({"kind": "fraction", **fields}))


def scores_file(folder: Path, training: Pictures) -> Path:
    """Scores 0.00, 0.01, ... in the order of the images, written in another order."""
    lines = [f"{name},{place / 100}" for place, name in enumerate(training.ids)]
    path = folder / "scores.csv"
    path.write_text("# id,score\n" + "\n".join(reversed(lines)) + "\n")
    return path


def test_the_bytes_of_files_are_taken_over(tmp_path: Path) -> None:
    training = Pictures()
    store = stored(policy(share=1.0).reduce(training, StorageSpec()), tmp_path / "a")
    assert [store.item(place) for place in range(30)] == [training.file(place) for place in range(30)]


def test_images_without_files_become_pngs_without_loss(tmp_path: Path) -> None:
    training = Pictures(as_files=False)
    found = policy(share=0.2).reduce(training, StorageSpec())
    store = stored(found, tmp_path / "a")
    assert found.positions is not None
    for place, position in enumerate(found.positions.tolist()):
        assert np.array_equal(np.asarray(opened(store.item(place))), np.asarray(training.image(position)))


@pytest.mark.parametrize("select", ["class_balanced", "uniform", "c_score"])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_smaller_share_is_part_of_a_larger_one(tmp_path: Path, select: str, balanced: bool) -> None:
    training = Pictures()
    fields = {"select": select}
    if select == "c_score":
        fields |= {"file": str(scores_file(tmp_path, training)), "balanced": balanced}
    kept = [
        set(policy(share=share, **fields).reduce(training, StorageSpec(seed=2)).positions.tolist())  # type: ignore[union-attr]
        for share in (0.1, 0.3, 0.35, 0.7, 1.0)
    ]
    assert [len(each) for each in kept] == [3, 9, 10, 21, 30]
    assert all(smaller < larger for smaller, larger in pairwise(kept))


def test_classes_differ_by_at_most_one_image_where_they_take_turns(tmp_path: Path) -> None:
    training = Pictures()
    file = str(scores_file(tmp_path, training))
    for fields in ({"select": "class_balanced"}, {"select": "c_score", "file": file, "balanced": True}):
        for share in (0.1, 0.25, 0.5, 0.8):
            labels = policy(share=share, **fields).reduce(training, StorageSpec()).labels
            counts = np.bincount(labels, minlength=3)
            assert counts.max() - counts.min() <= 1


def test_scores_keep_the_highest_or_the_lowest_whatever_the_class(tmp_path: Path) -> None:
    training = Pictures()
    file = str(scores_file(tmp_path, training))
    high = policy(share=0.2, select="c_score", file=file).reduce(training, StorageSpec())
    low = policy(share=0.2, select="c_score", file=file, keep="lowest").reduce(training, StorageSpec())
    assert high.positions is not None
    assert low.positions is not None
    assert high.positions.tolist() == list(range(24, 30))
    assert low.positions.tolist() == list(range(6))


def test_scores_with_turns_keep_the_best_of_each_class(tmp_path: Path) -> None:
    training = Pictures()
    training.labels = np.array([0] * 20 + [1] * 6 + [2] * 4)
    file = str(scores_file(tmp_path, training))
    found = policy(share=0.3, select="c_score", file=file, balanced=True).reduce(training, StorageSpec())
    assert found.positions is not None
    assert found.positions.tolist() == [17, 18, 19, 23, 24, 25, 27, 28, 29]


def test_a_list_keeps_its_images_in_its_order_and_no_others(tmp_path: Path) -> None:
    training = Pictures()
    listed = [9, 0, 3, 4, 1, 2]
    path = tmp_path / "list.csv"
    path.write_text("\n".join(f"{training.ids[place][:3]},{training.ids[place]}" for place in listed))
    whole = policy(select="per_class", file=str(path)).reduce(training, StorageSpec())
    assert whole.positions is not None
    assert whole.positions.tolist() == [0, 1, 2, 3, 4, 9]
    some = policy(select="per_class", file=str(path), share=0.1).reduce(training, StorageSpec())
    assert some.positions is not None
    assert some.positions.tolist() == [2, 4, 9]  # the first that each class names


@pytest.mark.parametrize("select", ["class_balanced", "uniform"])
@pytest.mark.parametrize("budget", ["9 kB", "400 B/image"])
def test_a_budget_is_kept_and_one_image_more_breaks_it(tmp_path: Path, select: str, budget: str) -> None:
    training, limit = Pictures(), Budget.model_validate(budget)
    bytes_allowed = limit.bytes * (30 if limit.per == "image" else 1)
    found = policy(select=select).reduce(training, StorageSpec(budget=limit))
    count = found.header.images
    assert 1 < count < 30
    assert found.parameter == {"share": count / 30}
    stored(found, tmp_path / "a")
    assert (tmp_path / "a").stat().st_size <= bytes_allowed
    assert size_of(policy(select=select, share=(count + 1) / 30), training, tmp_path / "b") > bytes_allowed


def test_a_budget_for_less_than_one_image_says_what_is_needed() -> None:
    with pytest.raises(InputError, match="do not hold a single image"):
        policy().reduce(Pictures(), StorageSpec(budget=Budget.model_validate("50 B")))


def test_the_same_seed_keeps_the_same_images_and_another_one_others() -> None:
    training = Pictures()
    first, again, other = (
        policy(share=0.5, select="uniform").reduce(training, StorageSpec(seed=seed)).positions for seed in (1, 1, 2)
    )
    assert first is not None
    assert again is not None
    assert other is not None
    assert first.tolist() == again.tolist() != other.tolist()
