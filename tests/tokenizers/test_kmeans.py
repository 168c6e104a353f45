import numpy as np
import pytest
import torch

from tokexp.tokenizers.kmeans import kmeans
from tokexp.tokenizers.quantizers import nearest_codes


def plain_lloyd(points: np.ndarray, number: int, rounds: int, seed: int) -> float:
    """Reference: Lloyd's rounds from different random points; mean squared distance per number."""
    centres = points[np.random.default_rng(seed).choice(len(points), number, replace=False)]
    for _ in range(rounds):
        places = ((points[:, None] - centres) ** 2).sum(2).argmin(1)
        centres = np.stack([points[places == k].mean(0) if (places == k).any() else centres[k] for k in range(number)])
    return float(((points[:, None] - centres) ** 2).sum(2).min(1).mean() / points.shape[1])


def blobs(seed: int, number: int = 1500, width: int = 4) -> torch.Tensor:
    draws = np.random.default_rng(seed)
    middles = draws.random((20, width))
    points = middles[draws.integers(0, 20, number)] + draws.normal(0, 0.05, (number, width))
    return torch.from_numpy(points).float()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_error_is_no_worse_than_that_of_plain_lloyd(seed: int) -> None:
    points = blobs(seed)
    best = min(plain_lloyd(points.double().numpy(), 16, 30, start) for start in range(3))
    assert kmeans(points, 16, 30, seed).mse <= 1.02 * best


def test_separate_groups_are_found_exactly() -> None:
    groups = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = torch.cat([groups + shift for shift in (-0.5, 0.0, 0.5)])
    found = kmeans(points, 3, 20, 0)
    assert sorted(found.centres.tolist()) == sorted(groups.tolist())
    assert found.used == 3


def test_the_reported_error_is_that_of_the_centres() -> None:
    points = blobs(3)
    found = kmeans(points, 8, 10, 0)
    expected = ((points[:, None] - found.centres) ** 2).sum(2).min(1).values.mean() / points.shape[1]
    assert found.mse == pytest.approx(float(expected), rel=1e-5)


def test_the_same_seed_gives_the_same_centres_and_another_seed_others() -> None:
    points = blobs(4)
    assert torch.equal(kmeans(points, 8, 10, 5).centres, kmeans(points, 8, 10, 5).centres)
    assert not torch.equal(kmeans(points, 8, 1, 5).centres, kmeans(points, 8, 1, 6).centres)


def test_rounds_end_when_nothing_moves() -> None:
    assert kmeans(torch.tensor([[0.0], [1.0]]), 2, 1000, 0).rounds < 5


def test_constant_points_give_equal_centres() -> None:
    found = kmeans(torch.full((50, 3), 0.25), 8, 5, 0)
    assert torch.equal(found.centres, torch.full((8, 3), 0.25))
    assert found.used == 1
    assert found.mse == 0


def test_fewer_different_points_than_centres_are_all_centres() -> None:
    different = torch.tensor([[0.0], [0.5], [1.0]])
    found = kmeans(different.repeat(10, 1), 8, 5, 0)
    assert {row[0] for row in found.centres.tolist()} == {0.0, 0.5, 1.0}
    assert found.used == 3


def test_a_single_point_is_enough() -> None:
    assert kmeans(torch.tensor([[0.5, 0.25]]), 4, 3, 0).centres.tolist() == [[0.5, 0.25]] * 4


def test_centres_that_lost_their_points_get_others(monkeypatch: pytest.MonkeyPatch) -> None:
    points = blobs(5)
    far = torch.full((6, 4), 50.0)
    far[0] = points[0]
    monkeypatch.setattr("tokexp.tokenizers.kmeans._start", lambda *_: far.clone())
    assert kmeans(points, 6, 10, 0).used == 6


def test_the_nearest_code_is_found_in_chunks_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, codes = blobs(6), blobs(7, 13)
    by_hand = ((vectors[:, None] - codes) ** 2).sum(2).argmin(1)
    assert torch.equal(nearest_codes(vectors, codes), by_hand)
    monkeypatch.setattr("tokexp.tokenizers.quantizers._SCORES", 100)
    assert torch.equal(nearest_codes(vectors, codes), by_hand)


def test_of_equal_codes_the_first_is_taken() -> None:
    codes = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    assert nearest_codes(torch.tensor([[0.9], [0.2]]), codes).tolist() == [0, 1]
