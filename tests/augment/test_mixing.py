"""Mixup (`mixup`) and CutMix (`token_cutmix`): weights, boxes, partners, targets."""

import pytest
import torch

from tokexp.augment.base import AugmentContext
from tokexp.augment.mixing import beta, cutmix_weights
from tokexp.augment.mixup import Mixup
from tokexp.augment.token_cutmix import TokenCutmix
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch_of(count=6, size=(9, 12)):
    labels = torch.arange(count) % 4
    return Batch(labels, 4, values=torch.randn(count, 3, *size, generator=seeded(9)))


def mixed(cls, kind, batch, seed=0, **fields):
    step = cls(getattr(spec, cls.__name__)(kind=kind, **fields), AugmentContext((9, 12)))
    return step(batch, seeded(seed))


def test_mixup_is_a_weighted_sum_with_the_reversed_batch_in_values_and_targets_alike():
    batch = batch_of()
    for seed in range(20):
        found = mixed(Mixup, "mixup", batch, seed)
        difference = (batch.values - batch.values.flip(0)).flatten()
        own = ((found.values - batch.values.flip(0)).flatten() @ difference / (difference @ difference)).item()
        assert 0 <= own <= 1
        assert torch.allclose(found.values, own * batch.values + (1 - own) * batch.values.flip(0), atol=1e-5)
        hard = torch.eye(4)[batch.labels]
        assert torch.allclose(found.targets, own * hard + (1 - own) * hard.flip(0), atol=1e-5)


def test_cutmix_replaces_one_box_and_mixes_targets_by_the_area_that_stayed():
    batch = batch_of()
    for seed in range(40):
        found = mixed(TokenCutmix, "token_cutmix", batch, seed)
        own = (found.values == batch.values).all(1)
        assert torch.equal(own, own[:1].expand_as(own))
        assert torch.equal(found.values, torch.where(own[:, None], batch.values, batch.values.flip(0)))
        inside = (~own[0]).nonzero()
        if len(inside):
            height, width = (inside.amax(0) - inside.amin(0) + 1).tolist()
            assert height * width == len(inside)
        share = own[0].float().mean()
        hard = torch.eye(4)[batch.labels]
        assert torch.allclose(found.targets, share * hard + (1 - share) * hard.flip(0), atol=1e-6)


def test_an_odd_batch_leaves_its_middle_sample_alone():
    batch = batch_of(5)
    for cls, kind in ((Mixup, "mixup"), (TokenCutmix, "token_cutmix")):
        found = mixed(cls, kind, batch)
        assert torch.allclose(found.values[2], batch.values[2])
        assert torch.allclose(found.targets[2], torch.eye(4)[batch.labels[2]])


def test_the_box_has_the_drawn_share_of_the_area_where_it_is_not_clipped():
    generator = seeded()
    shares = torch.stack([1 - cutmix_weights((64, 64), 1.0, generator).mean() for _ in range(3000)])
    # 1 - share is uniform before clipping (beta(1, 1)); clipping takes away: E = int of the mean clipped square.
    side = torch.linspace(0, 1, 2001).sqrt()
    clipped = (side * (1 - side / 4)).square()
    assert abs(shares.mean() - clipped.mean()) < 0.015


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_shares_follow_the_symmetric_beta_distribution(alpha):
    generator = seeded()
    drawn = torch.stack([beta(alpha, generator) for _ in range(4000)])
    assert abs(drawn.mean() - 0.5) < 0.03
    assert abs(drawn.var() - 1 / (4 * (2 * alpha + 1))) < 0.012


@pytest.mark.parametrize(("cls", "kind"), [(Mixup, "mixup"), (TokenCutmix, "token_cutmix")])
def test_with_probability_a_batch_stays_as_it_is(cls, kind):
    batch = batch_of()
    changed = [not torch.equal(mixed(cls, kind, batch, seed, prob=0.3).values, batch.values) for seed in range(300)]
    assert 0.2 < sum(changed) / 300 < 0.4
    untouched = mixed(cls, kind, batch, prob=0.0)
    assert torch.equal(untouched.values, batch.values)
    assert torch.equal(untouched.targets, torch.eye(4)[batch.labels])


def test_mixing_twice_mixes_the_targets_that_were_mixed():
    batch = batch_of()
    once = mixed(Mixup, "mixup", batch, 1)
    twice = mixed(TokenCutmix, "token_cutmix", once, 2)
    share = (twice.values == once.values).all(1)[0].float().mean()
    assert torch.allclose(twice.targets, share * once.targets + (1 - share) * once.targets.flip(0), atol=1e-6)
