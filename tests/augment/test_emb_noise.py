"""Emb-Noise's variance, correlation and choice of samples (S11)."""

import pytest
import torch

from tokexp.augment.base import AugmentContext
from tokexp.augment.emb_noise import EmbNoise
from tokexp.augment.subset import partners, touched
from tokexp.data.base import Batch
from tokexp.spec import augment as spec
from tokexp.tokenizers.base import Codebook


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noisy(values, codebook=None, **fields):
    step = EmbNoise(spec.EmbNoise(kind="emb_noise", **fields), AugmentContext(tuple(values.shape[-2:]), codebook))
    return step(Batch(torch.zeros(len(values), dtype=torch.long), 2, values=values), seeded()).values


def test_the_added_noise_has_variance_2_and_half_of_it_is_shared_within_a_channel():
    added = noisy(torch.zeros(200, 32, 8, 8), prob=1.0)
    assert abs(added.std() - 2**0.5) < 0.02
    first, other = added[:, :, 0, 0].flatten(), added[:, :, 5, 3].flatten()
    assert abs(torch.corrcoef(torch.stack([first, other]))[0, 1] - 0.5) < 0.03
    across = torch.corrcoef(torch.stack([added[:, 0].flatten(), added[:, 1].flatten()]))[0, 1]
    assert abs(across) < 0.1


def test_released_touches_exactly_half_of_the_samples_and_no_bit_of_the_others():
    values = torch.randn(11, 4, 4, 4, generator=seeded(1))
    found = noisy(values, preset="released")
    same = (found == values).flatten(1)
    assert same.all(1).sum() == 11 - 5
    assert not same[~same.all(1)].any()


def test_paper_draws_each_sample_by_itself():
    counts = [int(touched(64, 0.5, "bernoulli", seeded(seed)).sum()) for seed in range(200)]
    assert abs(sum(counts) / 200 / 64 - 0.5) < 0.02
    assert len(set(counts)) > 10


@pytest.mark.parametrize(("prob", "expected"), [(0.0, 0), (0.25, 2), (0.5, 5), (1.0, 10)])
def test_an_exact_count_is_the_floor_and_every_sample_has_its_turn(prob, expected):
    masks = torch.stack([touched(10, prob, "exact_count", seeded(seed)) for seed in range(400)])
    assert (masks.sum(1) == expected).all()
    assert (masks.float().mean(0) - expected / 10).abs().max() < 0.1


def test_relative_noise_is_scaled_by_the_mean_row_norm_over_the_root_of_the_width():
    codebook = Codebook(torch.randn(20, 4, generator=seeded(2)) * 7)
    values = torch.zeros(3, 4, 2, 2)
    factor = codebook.codes.square().sum(1).sqrt().mean() / 2
    absolute, relative = noisy(values, prob=1.0), noisy(values, codebook, prob=1.0, relative=True)
    assert torch.allclose(relative, absolute * factor, rtol=1e-5)
    with pytest.raises(ValueError, match="relative needs a codebook"):
        noisy(values, relative=True)


def test_random_partners_are_uniform_over_the_others_and_never_the_sample_itself():
    drawn = torch.stack([partners(5, "random", seeded(seed)) for seed in range(4000)])
    for sample in range(5):
        shares = torch.bincount(drawn[:, sample], minlength=5) / 4000
        assert shares[sample] == 0
        assert (shares[torch.arange(5) != sample] - 0.25).abs().max() < 0.03
    assert partners(1, "random", seeded()).tolist() == [0]


def test_reversed_partners_are_counted_from_the_end():
    assert partners(5, "reversed", seeded()).tolist() == [4, 3, 2, 1, 0]
