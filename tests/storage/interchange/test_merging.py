from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.storage.interchange.conftest import everything
from tokexp.errors import InputError
from tokexp.storage.implicit import fsq_codes, lfq_codes
from tokexp.storage.interchange.manifest import describe
from tokexp.storage.interchange.merging import merge_stores
from tokexp.storage.interchange.table import table_of
from tokexp.storage.store import TokenStore

Maker = Callable[..., TokenStore]
WHOLE = np.random.default_rng(1).normal(size=(12, 2)).astype(np.float32)


def vectors(indices: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return codes[indices]


def test_every_token_keeps_its_vector_and_every_code_is_there_once(store_at: Maker) -> None:
    parts = [
        store_at(f"part-{n}", images=5 + n, codes=WHOLE[list(rows)])
        for n, rows in enumerate([(0, 1, 4, 6, 7), (1, 4, 6, 9), (0, 1, 9, 11)])
    ]
    merged = merge_stores(parts)
    indices, labels = everything(merged)
    expected = np.concatenate([vectors(part.indices(), part.codes) for part in parts])
    assert np.array_equal(vectors(indices, merged.codes), expected)
    assert labels.tolist() == np.concatenate([part.labels for part in parts]).tolist()
    assert sorted(map(tuple, merged.codes.tolist())) == sorted(map(tuple, WHOLE[[0, 1, 4, 6, 7, 9, 11]].tolist()))
    assert (merged.images, merged.num_classes, merged.facts) == (18, 5, {"note": "a"})


def test_stores_of_one_codebook_keep_their_numbers(store_at: Maker) -> None:
    one, two = store_at("one", images=3), store_at("two", images=4)
    merged = merge_stores([one, two])
    assert np.array_equal(everything(merged)[0], np.concatenate([one.indices(), two.indices()]))
    assert np.array_equal(merged.codes, one.codes)


def test_computed_codes_are_merged_in_their_order(store_at: Maker) -> None:
    everything_ = fsq_codes([3, 3])
    facts = {"fsq_levels": [3, 3]}
    parts = [
        store_at(name, images=4, codes=everything_[rows], implicit_codebook=True, facts=facts)
        for name, rows in (("one", [1, 2, 8]), ("two", [0, 4]))
    ]
    merged = merge_stores(parts)
    assert merged.implicit
    assert np.array_equal(merged.codes, everything_[[0, 1, 2, 4, 8]])
    expected = np.concatenate([vectors(part.indices(), part.codes) for part in parts])
    assert np.array_equal(vectors(everything(merged)[0], merged.codes), expected)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"grid": (2, 2)}, "another grid"),
        ({"metric": "euclidean"}, "another metric"),
        ({"codes": np.zeros((300, 2), np.float32)}, "width of codes"),
        ({"codes": np.ones((300, 3), np.float32)}, "same tokenizer"),
        ({"facts": {"asked_codes": 8192}}, "size of the whole codebook"),
    ],
)
def test_stores_that_do_not_belong_together_are_refused(store_at: Maker, other: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        merge_stores([store_at("one"), store_at("two", **other)])


def test_stores_of_two_trainings_are_refused_though_their_codes_are_computed(store_at: Maker) -> None:
    def stored(name: str, weights: str) -> TokenStore:
        facts = {"lfq_bits": 3, "weights": weights}
        return store_at(name, codes=lfq_codes(3), implicit_codebook=True, facts=facts)

    one, again, other = stored("one", "aa"), stored("again", "aa"), stored("other", "bb")
    assert merge_stores([one, again]).facts["weights"] == "aa"
    with pytest.raises(InputError, match="another training of the tokenizer"):
        merge_stores([one, other])
    with pytest.raises(InputError, match="another training of the tokenizer"):
        describe("numpy", {"train": table_of(one), "test": table_of(other)})


def test_more_codes_than_the_tokenizer_had_are_refused(store_at: Maker) -> None:
    facts = {"asked_codes": 6}
    parts = [store_at(name, codes=WHOLE[rows], facts=facts) for name, rows in (("a", range(5)), ("b", range(2, 7)))]
    with pytest.raises(InputError, match="7 codes, more than a codebook of 6"):
        merge_stores(parts)


def test_an_empty_store_adds_nothing(store_at: Maker) -> None:
    full = store_at("full")
    empty = store_at("empty", images=0, codes=np.empty((0, 3), np.float32))
    for merged in (merge_stores([full, empty]), merge_stores([empty, full])):
        assert np.array_equal(everything(merged)[0], full.indices())
        assert np.array_equal(merged.codes, full.codes)
