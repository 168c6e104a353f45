"""ColorAdapt's statistics, inverse, flat channels and partners (S12 to S15)."""

import pytest
import torch

from tokexp.augment.base import AugmentContext
from tokexp.augment.color_adapt import ColorAdapt, adapt_statistics
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


def maps(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(count, 5, 1, 1, generator=generator) + 0.5
    return torch.randn(count, 5, 7, 9, generator=generator) * scale + torch.randn(count, 5, 1, 1, generator=generator)


def apply(values, **fields):
    step = ColorAdapt(spec.ColorAdapt(kind="color_adapt", **fields), AugmentContext(tuple(values.shape[-2:])))
    batch = Batch(torch.zeros(len(values), dtype=torch.long), 2, values=values)
    return step(batch, torch.Generator().manual_seed(0)).values


def test_the_result_has_the_partners_mean_and_unbiased_deviation():
    values, partner = maps(), torch.tensor([3, 0, 4, 5, 1, 2])
    found = adapt_statistics(values, partner, 0.0)
    assert torch.allclose(found.mean((2, 3)), values[partner].mean((2, 3)), atol=1e-5)
    assert torch.allclose(found.std((2, 3), correction=1), values[partner].std((2, 3), correction=1), atol=1e-5)
    mean, deviation = values.mean((2, 3), keepdim=True), values.std((2, 3), keepdim=True)
    expected = deviation[partner] * (values - mean) / deviation + mean[partner]
    assert torch.allclose(found, expected, atol=1e-5)


def test_the_divided_deviation_is_unbiased():
    # Where eps is as large as the deviation, biased and unbiased ones give different results.
    values, partner = maps(), torch.tensor([1, 0, 3, 2, 5, 4])
    mean, deviation = values.mean((2, 3), keepdim=True), values.std((2, 3), keepdim=True, correction=1)
    expected = deviation[partner] * (values - mean) / (deviation + 1.0) + mean[partner]
    assert torch.allclose(adapt_statistics(values, partner, 1.0), expected, atol=1e-5)


def test_ones_own_statistics_change_nothing_and_the_originals_bring_a_map_back():
    values = maps()
    assert torch.allclose(adapt_statistics(values, torch.arange(6), 0.0), values, atol=1e-5)
    pair = values[:2]
    there = adapt_statistics(pair, torch.tensor([1, 0]), 0.0)
    back = adapt_statistics(torch.stack([there[0], pair[0]]), torch.tensor([1, 0]), 0.0)[0]
    assert torch.allclose(back, pair[0], atol=1e-5)


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("level", [0.0, 0.1, 1e6])
def test_a_flat_channel_takes_the_partners_mean_and_stays_finite(eps, level):
    values = maps()
    values[0, 2] = level
    found = adapt_statistics(values, torch.tensor([1, 0, 3, 2, 5, 4]), eps)
    assert found.isfinite().all()
    assert torch.equal(found[0, 2], values[1, 2].mean().expand(7, 9))
    # And whoever takes a flat channel's statistics becomes flat.
    assert torch.allclose(found[1, 2], torch.full((7, 9), level), rtol=1e-6)


def test_a_map_of_one_cell_takes_the_partners_value():
    values = torch.tensor([1.0, 5.0]).view(2, 1, 1, 1)
    assert adapt_statistics(values, torch.tensor([1, 0]), 1e-5).flatten().tolist() == [5.0, 1.0]


def test_released_gives_exactly_half_the_samples_the_statistics_of_the_reversed_batch():
    values = maps(8)
    found = apply(values, preset="released")
    changed = (found != values).flatten(1).any(1)
    assert changed.sum() == 4
    assert torch.equal(found[~changed], values[~changed])
    for sample in changed.nonzero().flatten().tolist():
        assert torch.allclose(found[sample].mean((1, 2)), values[8 - 1 - sample].mean((1, 2)), atol=1e-5)


def test_paper_takes_the_statistics_of_another_sample():
    values = maps(6)
    found = apply(values, prob=1.0)
    for sample in range(6):
        distance = (found[sample].mean((1, 2)) - values.mean((2, 3))).abs().sum(1)
        assert distance.argmin() != sample
        assert distance.min() < 1e-4
