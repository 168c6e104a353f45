"""k-means of large samples: against plain rounds, on groups that are known, in chunks, from several starts."""

import numpy as np
import pytest
import torch

from tokexp.tokenizers import clusters as module
from tokexp.tokenizers.clusters import clusters

CPU = torch.device("cpu")


def groups(
    number: int = 400, width: int = 5, count: int = 8, spread: float = 0.05
) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    middles = torch.rand(count, width, generator=draws) * 4
    places = torch.arange(number) % count
    return middles[places] + spread * torch.randn(number, width, generator=draws), middles


def test_known_groups_are_found_and_the_error_is_that_of_the_centres() -> None:
    points, middles = groups()
    found = clusters(points, 8, rounds=30, restarts=8, seed=0, device=CPU)
    assert found.used == 8
    assert torch.cdist(middles, found.centres).min(1).values.max() < 0.05
    error = torch.cdist(points, found.centres).min(1).values.square().mean() / points.shape[1]
    assert found.mse == pytest.approx(float(error), rel=1e-4)


def test_rounds_are_those_of_lloyd_from_the_same_start() -> None:
    points, _ = groups(spread=0.8)
    start = module._start(points, 6, torch.Generator().manual_seed(3))
    expected = start.double().numpy()
    rows = points.double().numpy()
    for _ in range(4):
        places = ((rows[:, None] - expected) ** 2).sum(2).argmin(1)
        assert len(np.unique(places)) == 6
        expected = np.stack([rows[places == k].mean(0) for k in range(6)])
    found = module._lloyd(points, start, 4)
    assert np.allclose(found.numpy(), expected, atol=1e-4)


def test_more_starts_are_no_worse_and_the_same_seed_is_the_same() -> None:
    points, _ = groups(spread=0.5)
    errors = [clusters(points, 12, rounds=10, restarts=n, seed=1, device=CPU).mse for n in (1, 2, 6)]
    assert errors[0] >= errors[1] >= errors[2]
    one, other = (clusters(points, 12, rounds=10, restarts=2, seed=1, device=CPU).centres for _ in range(2))
    assert torch.equal(one, other)


def test_a_centre_without_points_takes_half_of_the_largest_cluster() -> None:
    means = torch.tensor([[2.0, 2.0], [0.0, 0.0], [5.0, 5.0]])
    found = module._split(means.clone(), torch.tensor([10.0, 0.0, 3.0]), torch.zeros(3, 2))
    assert torch.equal(found[2], means[2])
    assert torch.allclose(found[0] + found[1], 2 * means[0])
    assert 0 < float((found[0] - found[1]).abs().max()) < 0.01


def test_fewer_points_than_centres_give_every_point() -> None:
    points = torch.tensor([[0.0, 1.0], [3.0, 4.0], [9.0, 1.0]])
    found = clusters(points, 5, rounds=5, restarts=1, seed=0, device=CPU)
    assert found.centres.shape == (5, 2)
    assert found.mse == pytest.approx(0, abs=1e-9)


def test_mini_batches_find_known_groups_nearly() -> None:
    points, _ = groups(2000)
    full = clusters(points, 8, rounds=30, restarts=8, seed=0, device=CPU)
    small = clusters(points, 8, rounds=60, restarts=8, seed=0, device=CPU, batch=200)
    assert small.mse < 1.1 * full.mse


def test_chunks_and_half_precision_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    points = groups(spread=0.3)[0].half()
    whole = clusters(points, 8, rounds=5, restarts=1, seed=0, device=CPU)
    monkeypatch.setattr(module, "_CHUNK", 37)
    parts = clusters(points, 8, rounds=5, restarts=1, seed=0, device=CPU)
    assert parts.mse == pytest.approx(whole.mse, rel=1e-3)
    assert whole.centres.dtype == torch.float32
