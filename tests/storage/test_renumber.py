import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokexp.errors import InputError
from tokexp.storage.renumber import apply_table, count_codes, nearest, renumber


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 40), st.integers(0, 6), st.sampled_from(["euclidean", "cosine"]))
def test_renumbered_tokens_have_the_codes_that_they_had(seed: int, num_codes: int, images: int, metric: str) -> None:
    generator = np.random.default_rng(seed)
    codes = generator.normal(size=(num_codes, 3)).astype(np.float32)
    indices = generator.integers(0, num_codes, (images, 2, 2)).astype(np.uint16)
    renumbered, used, table = renumber(indices, codes, metric)
    assert np.array_equal(used[renumbered], codes[indices])
    assert np.array_equal(used, codes[np.unique(indices)])
    assert renumbered.dtype == np.uint16
    assert renumbered.shape == indices.shape
    assert np.array_equal(apply_table(indices, table), renumbered)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_an_unused_code_goes_to_the_nearest_used_one(metric: str) -> None:
    codes = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    indices = np.arange(0, 60, 3).reshape(1, 4, 5)
    _, used, table = renumber(indices, codes, metric)
    for index in range(60):
        if metric == "euclidean":
            scores = [-float(((codes[index].astype(float) - other) ** 2).sum()) for other in used.astype(float)]
        else:
            scores = [float(codes[index].astype(float) @ other / np.linalg.norm(other)) for other in used.astype(float)]
        assert table[index] == int(np.argmax(scores))


def test_the_two_metrics_differ_where_lengths_differ() -> None:
    codes = np.array([[1.0, 1.0], [10.0, 10.0], [1.0, 0.4]], np.float32)
    indices = np.array([[[1, 2]]])
    assert renumber(indices, codes, "euclidean")[2].tolist() == [1, 0, 1]
    assert renumber(indices, codes, "cosine")[2].tolist() == [0, 0, 1]


def test_nearest_beyond_one_chunk_equals_the_full_table_of_distances() -> None:
    generator = np.random.default_rng(0)
    vectors, codes = generator.normal(size=(2500, 3)), generator.normal(size=(70, 3))
    distances = ((vectors[:, None] - codes) ** 2).sum(-1)
    assert np.array_equal(nearest(vectors, codes, "euclidean"), distances.argmin(1))


def test_counting_beyond_one_chunk_counts_every_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokexp.storage.renumber._TOKENS", 7)
    indices = np.random.default_rng(0).integers(0, 5, (10, 2, 2))
    assert count_codes(indices, 6).tolist() == [int((indices == code).sum()) for code in range(6)]
    assert np.array_equal(apply_table(indices, np.arange(5)[::-1]), 4 - indices)


def test_an_index_without_a_code_is_refused() -> None:
    with pytest.raises(InputError, match="index 5 is outside the codebook of 3 codes"):
        renumber(np.array([[[5]]]), np.zeros((3, 2), np.float32), "euclidean")
