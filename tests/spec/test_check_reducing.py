"""What `storage.reduce` contradicts is refused at its place, and what nobody wrote changes no key."""

from typing import Any

import pytest

from tokexp.spec.check_reducing import check_reducing
from tokexp.spec.experiment import Experiment
from tokexp.spec.reducing import FractionReduce, ResizeReduce
from tokexp.spec.storage import StorageSpec


def found(storage: dict[str, Any], **blocks: Any) -> list[tuple[str, str]]:
    given = {
        "schema": 1, "data": {"kind": "digits"}, "storage": storage, "tasks": {"train": {"kind": "classify"}},
        "model": {"kind": "vit", "input": "pixels", "stem": {"kind": "patchify", "patch_size": 2}}, **blocks,
    }  # fmt: skip
    return [(".".join(map(str, each.path)), each.message) for each in check_reducing(Experiment.model_validate(given))]


GOOD: list[dict[str, Any]] = [
    {},
    {"reduce": {"kind": "jpeg", "quality": 5}},
    {"reduce": {"kind": "jpeg"}, "budget": "1 kB/image"},
    {"reduce": {"kind": "jpeg", "quality": 5}, "fraction": 0.5},
    {"reduce": {"kind": "resize", "factor": 0.2}},
    {"reduce": {"kind": "resize", "side": 4}},
    {"reduce": {"kind": "resize"}, "budget": "1 MB"},
    {"reduce": {"kind": "fraction", "share": 0.1}},
    {"reduce": {"kind": "fraction", "select": "c_score", "file": "a.csv"}, "budget": "1 MB"},
    {"reduce": {"kind": "fraction", "select": "per_class", "file": "a.csv"}},
    {"reduce": {"kind": "distilled", "file": "a.npz"}},
]


@pytest.mark.parametrize("storage", GOOD)
def test_a_policy_that_makes_sense_passes(storage: dict[str, Any]) -> None:
    assert found(storage) == []


@pytest.mark.parametrize(
    ("storage", "path", "said"),
    [
        ({"reduce": {"kind": "jpeg"}}, "storage.reduce.quality", "missing; give quality, or a storage.budget"),
        ({"reduce": {"kind": "resize"}}, "storage.reduce.factor", "missing; give factor or side"),
        ({"reduce": {"kind": "fraction"}}, "storage.reduce.share", "missing; give share"),
        ({"reduce": {"kind": "jpeg", "quality": 5}, "budget": "1 MB"}, "storage.reduce.quality", "beside a budget"),
        ({"reduce": {"kind": "resize", "side": 5}, "budget": "1 MB"}, "storage.reduce.side", "decides factor and side"),
        ({"reduce": {"kind": "fraction", "share": 0.1}, "budget": "1 MB"}, "storage.reduce.share", "beside a budget"),
        ({"reduce": {"kind": "fraction", "share": 0.1}, "fraction": 0.5}, "storage.fraction", "storage.reduce.share"),
        ({"reduce": {"kind": "distilled", "file": "a.npz"}, "budget": "1 MB"}, "storage.budget", "stored whole"),
        ({"reduce": {"kind": "distilled", "file": "a.npz"}, "fraction": 0.1}, "storage.fraction", "stored whole"),
    ],
)
def test_a_contradiction_is_found_at_its_field(storage: dict[str, Any], path: str, said: str) -> None:
    ((where, message),) = found(storage)
    assert where == path
    assert said in message


def test_a_model_of_tokens_stores_no_images() -> None:
    model = {"kind": "vit", "stem": {"kind": "conv2x2"}}
    tokenizer = {"kind": "patch_kmeans", "codebook_size": 8}
    ((where, message),) = found({"reduce": {"kind": "jpeg", "quality": 5}}, model=model, tokenizer=tokenizer)
    assert where == "storage.reduce"
    assert "this model reads tokens" in message


def test_stored_targets_are_refused_beside_reduced_pixels_and_encoded_ones_are_not() -> None:
    for targets, count in (("stored", 1), ("encoded", 0)):
        objective = {"kind": "mim", "targets": targets}
        said = found(
            {"reduce": {"kind": "jpeg", "quality": 5}}, objective=objective,
            tokenizer={"kind": "patch_kmeans", "patch_size": 2, "codebook_size": 8},
        )  # fmt: skip
        assert [where for where, _ in said] == ["objective.targets"] * count


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"select": "c_score"}, "select: c_score needs a file"),
        ({"select": "per_class"}, "select: per_class needs a file"),
        ({"file": "a.csv"}, "class_balanced reads no file"),
        ({"balanced": True}, "keep and balanced are for select: c_score"),
        ({"select": "uniform", "keep": "lowest"}, "keep and balanced are for select: c_score"),
    ],
)
def test_how_images_are_selected_fits_the_file(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        FractionReduce.model_validate({"kind": "fraction", **fields})


def test_a_factor_and_a_side_exclude_one_another() -> None:
    with pytest.raises(ValueError, match="give factor or side"):
        ResizeReduce.model_validate({"kind": "resize", "factor": 0.5, "side": 4})


def test_storage_without_a_policy_is_what_it_was_before_there_were_any() -> None:
    assert StorageSpec().relevant() == {"codec": {"kind": "packed"}, "budget": None, "fraction": None, "seed": 0}
    assert "reduce" in StorageSpec.model_validate({"reduce": {"kind": "jpeg", "quality": 5}}).relevant()
