"""Tokexp's own token stores as data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.stores import BOOK, stored, write
from tokexp.data.listing import fingerprint, image_counts
from tokexp.data.token_store import StoredTokens, build
from tokexp.errors import DamagedError, FieldError
from tokexp.spec.storage import SeitCodec
from tokexp.storage import store as store_module


def tokens_of(source: StoredTokens, split: str) -> np.ndarray:
    return np.concatenate(list(source.blocks(split)))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_every_token_keeps_its_vector_though_the_files_number_codes_apart(tmp_path: Path) -> None:
    train = write(tmp_path / "train.tokens", 30, [0, 3, 5, 7, 9, 20, 21])
    test = write(tmp_path / "test.tokens", 11, [1, 3, 5, 9, 20, 39])
    source = build(stored(tmp_path))
    for split, vectors in (("train", train), ("test", test)):
        assert np.array_equal(source.codebook.vectors[tokens_of(source, split)], vectors)
        assert tokens_of(source, split).dtype == np.uint16
    assert np.array_equal(source.codebook.vectors[:7], BOOK[[0, 3, 5, 7, 9, 20, 21]])
    assert (source.grid, source.codebook.metric, source.splits) == ((2, 4), "cosine", ("train", "test"))
    assert source.codebook.facts == {"asked_codes": 40}


def test_without_a_test_file_a_stratified_part_is_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "IMAGES_PER_BLOCK", 7)
    vectors = write(tmp_path / "train.tokens", 60)
    source = build(stored(tmp_path, test_fraction=0.25, select_fraction=0.2))
    assert image_counts(stored(tmp_path, test_fraction=0.25, select_fraction=0.2)) == {
        "train": 36, "test": 15, "select": 9,
    }  # fmt: skip
    assert np.bincount(source.labels("test")).tolist() == [5, 5, 5]
    places = {split: [int(name.split("/")[1]) for name in source.sample_ids(split)] for split in source.splits}
    assert sorted(place for at in places.values() for place in at) == list(range(60))
    for split, at in places.items():
        assert np.array_equal(source.codebook.vectors[tokens_of(source, split)], vectors[at])
        assert np.array_equal(source.labels(split), np.arange(60)[at] % 3)
    assert build(stored(tmp_path, split_seed=1)).sample_ids("test") != build(stored(tmp_path)).sample_ids("test")


def test_computed_codes_stay_computed(tmp_path: Path) -> None:
    from tokexp.storage.implicit import fsq_codes

    book, facts = fsq_codes([3, 3]), {"fsq_levels": [3, 3], "asked_codes": 9}
    for name, rows in (("train", [1, 2, 8]), ("test", [0, 2])):
        write(tmp_path / f"{name}.tokens", codes=book[rows], facts=facts, implicit_codebook=True)
    codebook = build(stored(tmp_path)).codebook
    assert codebook.implicit
    assert np.array_equal(codebook.vectors, book[[0, 1, 2, 8]])
    assert codebook.facts == facts


OTHER = {
    "grid": ({"grid": (4, 4)}, "another grid"),
    "metric": ({"metric": "euclidean"}, "another metric"),
    "codebook": ({"codes": BOOK + 1}, "0 of 40 codes in common"),
    "width": ({"codes": BOOK[:, :2]}, "another width of codes"),
    "classes": ({"num_classes": 2}, "2 classes where the training tokens have 3"),
}


@pytest.mark.parametrize("what", OTHER)
def test_files_that_do_not_go_together_are_refused_at_the_test_file(tmp_path: Path, what: str) -> None:
    content, words = OTHER[what]
    write(tmp_path / "train.tokens")
    write(tmp_path / "test.tokens", 9, **content)
    with pytest.raises(FieldError, match=words) as found:
        build(stored(tmp_path))
    assert found.value.field == ("data", "test")
    assert "test.tokens" in found.value.reason


def test_a_number_of_classes_that_is_written_settles_what_the_files_say(tmp_path: Path) -> None:
    write(tmp_path / "train.tokens")
    write(tmp_path / "test.tokens", num_classes=2)
    assert len(build(stored(tmp_path, classes=5)).classes) == 5
    with pytest.raises(FieldError, match=r"data\.classes: 2 given; the files hold labels up to 2"):
        build(stored(tmp_path, classes=2))


@pytest.mark.parametrize("role", ["train", "test"])
def test_a_missing_file_and_a_file_of_another_kind_are_named_by_their_field(tmp_path: Path, role: str) -> None:
    for name in ("train", "test"):
        write(tmp_path / f"{name}.tokens")
    spec = stored(tmp_path)
    for content, words in ((None, "No such file"), (b"PK\3\4" * 20, "is not a token store"), (b"", "not a token")):
        path = tmp_path / f"{role}.tokens"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(FieldError, match=words) as found:
            build(spec)
        assert found.value.field == ("data", role)
        assert fingerprint(spec, strict=False) == "absent"


def test_a_store_without_images_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "train.tokens", 0)
    with pytest.raises(FieldError, match="holds no image"):
        build(stored(tmp_path))


def test_damage_outside_the_tokens_is_found_on_opening_and_in_them_before_they_are_used(tmp_path: Path) -> None:
    write(tmp_path / "train.tokens", 400)
    size = (tmp_path / "train.tokens").stat().st_size
    flip(tmp_path / "train.tokens", 60)
    with pytest.raises(FieldError, match="is damaged"):
        build(stored(tmp_path))
    flip(tmp_path / "train.tokens", 60)
    flip(tmp_path / "train.tokens", size - 5)
    source = build(stored(tmp_path))
    with pytest.raises(DamagedError, match="its tokens, block 0"):
        next(source.blocks("train"))


def test_the_content_decides_the_fingerprint_and_the_place_does_not(tmp_path: Path) -> None:
    found: dict[str, tuple[str, Any]] = {}
    for name, images in (("a", 30), ("b", 30), ("c", 31)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "train.tokens", images)
        spec = stored(tmp_path / name)
        found[name] = fingerprint(spec), spec.relevant()
    assert found["a"] == found["b"]
    assert found["a"][0] != found["c"][0]
    assert found["a"][1] != found["c"][1]
    assert fingerprint(stored(tmp_path / "a", test=str(tmp_path / "b" / "train.tokens"))) != found["a"][0]


def test_any_codec_and_the_largest_codebook_are_read(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).normal(size=(65_536, 1)).astype(np.float32)
    indices = np.array([[[0, 65_535]], [[1, 40_000]]], np.uint16)
    write(tmp_path / "train.tokens", 2, codes=codes, indices=indices, facts={})
    write(tmp_path / "other.tokens", 2, [0, 1], codec_spec=SeitCodec(kind="seit"))
    source = build(stored(tmp_path, test=str(tmp_path / "train.tokens")))
    assert np.array_equal(source.codebook.vectors[tokens_of(source, "test")], codes[indices])
    assert build(stored(tmp_path, train=str(tmp_path / "other.tokens"))).grid == (2, 4)
