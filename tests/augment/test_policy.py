"""Policies and combinators: `one_of`, `sometimes`, `halves`; `token_crop`, `pixel_rrc`, `pixel_flip`."""

import pytest
import torch

from tokexp.augment.base import AugmentContext
from tokexp.augment.policy import Policy
from tokexp.data.base import Batch
from tokexp.spec.augment import AugmentSpec
from tokexp.tokenizers.base import Codebook

CODEBOOK = Codebook(torch.randn(20, 6, generator=torch.Generator().manual_seed(0)))
CONTEXT = AugmentContext((6, 6), CODEBOOK)
PIXELS = AugmentContext((6, 6))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def policy(*steps, context=CONTEXT):
    return Policy(AugmentSpec.model_validate(list(steps)).task, context)


def tokens(count=8, side=8):
    indices = torch.randint(20, (count, side, side), generator=seeded(7))
    return Batch(torch.arange(count) % 3, 3, indices=indices)


def pixels(count=8, side=6):
    return Batch(torch.arange(count) % 3, 3, values=torch.rand(count, 3, side, side, generator=seeded(7)))


def looked_up(batch):
    return CODEBOOK.lookup(batch.indices[:, 1:7, 1:7])


def test_an_empty_policy_is_the_centre_crop_of_what_is_looked_up():
    batch = tokens()
    assert torch.equal(policy()(batch, seeded()).values, looked_up(batch))
    assert torch.equal(policy({"kind": "token_rrc"}).centre(batch).values, looked_up(batch))


def test_a_policy_without_a_crop_step_ends_at_the_centre():
    batch = tokens()
    assert torch.equal(policy({"kind": "emb_noise", "prob": 0.0})(batch, seeded()).values, looked_up(batch))


def test_pixels_need_no_codebook():
    batch = pixels(side=8)
    assert torch.equal(policy(context=PIXELS)(batch, seeded()).values, batch.values[..., 1:7, 1:7])


def test_tokens_without_a_codebook_and_maps_that_are_too_small_are_said():
    with pytest.raises(ValueError, match="cannot be looked up without a codebook"):
        policy(context=PIXELS)(tokens(), seeded())
    with pytest.raises(ValueError, match="4 x 4 cannot be cropped to the 6 x 6"):
        policy()(tokens(side=4), seeded())


def test_token_crop_cuts_another_whole_piece_of_every_sample():
    batch = tokens(64)
    codes = policy({"kind": "token_crop"})(batch, seeded()).values
    found = CODEBOOK.nearest(codes)
    seen = set()
    for image, whole in zip(found, batch.indices, strict=True):
        at = [(r, c) for r in range(3) for c in range(3) if torch.equal(whole[r : r + 6, c : c + 6], image)]
        assert len(at) == 1
        seen.add(at[0])
    assert len(seen) == 9


def test_token_crop_does_the_same_before_and_after_lookup():
    batch = tokens()
    step = policy({"kind": "token_crop"})
    after = step(batch.with_values(CODEBOOK.lookup(batch.indices)), seeded(1))
    assert torch.equal(step(batch, seeded(1)).values, after.values)
    with pytest.raises(ValueError, match="a side of 4 cannot be cropped to 6"):
        step(tokens(side=4), seeded())


def test_pixel_flip_mirrors_about_half_of_the_samples():
    batch = pixels(200)
    found = policy({"kind": "pixel_flip"}, context=PIXELS)(batch, seeded()).values
    flipped = torch.tensor([torch.equal(a, b.flip(-1)) for a, b in zip(found, batch.values, strict=True)])
    assert torch.equal(found[~flipped], batch.values[~flipped])
    assert 70 < flipped.sum() < 130


def test_pixel_rrc_of_the_whole_area_changes_nothing_and_resizes_otherwise():
    batch = pixels()
    whole = {"kind": "pixel_rrc", "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    assert torch.equal(policy(whole, context=PIXELS)(batch, seeded()).values, batch.values)
    assert policy({"kind": "pixel_rrc"}, context=PIXELS)(pixels(side=11), seeded()).values.shape == (8, 3, 6, 6)


@pytest.mark.parametrize("kind", ["pixel_rrc", "pixel_flip"])
def test_pixel_steps_refuse_tokens(kind):
    with pytest.raises(ValueError, match=f"{kind} needs pixels"):
        policy({"kind": kind})(tokens(), seeded())


ON, OFF = {"kind": "emb_noise", "prob": 1.0}, {"kind": "emb_noise", "prob": 0.0}


def touched(steps, batch, seed):
    found = policy(*steps)(batch, seeded(seed)).values
    return (found != looked_up(batch)).flatten(1).any(1)


def test_sometimes_is_one_draw_for_the_batch():
    batch = tokens(4, side=8)
    masks = torch.stack([touched([{"sometimes": 0.3, "do": [ON]}], batch, seed) for seed in range(200)])
    assert torch.equal(masks.all(1), masks.any(1))
    assert 0.2 < masks.all(1).float().mean() < 0.4


def test_one_of_per_batch_gives_one_step_to_all_by_weight():
    batch = tokens(4)
    steps = [{"one_of": [ON, OFF], "weights": [3, 1]}]
    masks = torch.stack([touched(steps, batch, seed) for seed in range(200)])
    assert torch.equal(masks.all(1), masks.any(1))
    assert 0.66 < masks.all(1).float().mean() < 0.84


def test_one_of_per_sample_draws_for_each_and_keeps_the_order():
    batch = tokens(400)
    steps = [{"one_of": [ON, OFF], "weights": [0.25, 0.75], "per": "sample"}]
    mask = touched(steps, batch, 0)
    assert 0.17 < mask.float().mean() < 0.33
    found = policy(*steps)(batch, seeded())
    assert torch.equal(found.values[~mask], looked_up(batch)[~mask])
    assert torch.equal(found.labels, batch.labels)


def test_one_of_per_sample_of_token_steps_stays_tokens_for_the_next_one():
    batch = tokens(30)
    eda = {"kind": "token_eda", "synonym": 1.0, "swap": 0.0, "replace": 0.5}
    found = policy({"one_of": [eda, {"kind": "token_eda", "synonym": 0.0}], "per": "sample"}, eda)(batch, seeded())
    assert (CODEBOOK.nearest(found.values) != batch.indices[:, 1:7, 1:7]).float().mean() > 0.4


def test_one_of_per_sample_brings_results_of_different_size_and_form_together():
    batch = tokens(30)
    steps = [{"kind": "token_rrc"}, {"kind": "mixup"}, {"kind": "token_eda", "synonym": 0.0, "swap": 0.0}]
    found = policy({"one_of": steps, "per": "sample"})(batch, seeded())
    assert found.values.shape == (30, 6, 6, 6)
    assert torch.allclose(found.targets.sum(1), torch.ones(30))


def test_halves_treats_each_half_by_its_own_list_and_joins_them_on_one_grid():
    batch = tokens(8)
    crop = {"kind": "token_rrc", "scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    found = policy({"halves": [[crop, {"kind": "token_cutmix"}], []]})(batch, seeded())
    assert found.values.shape == (8, 6, 6, 6)
    assert torch.equal(found.values[4:], looked_up(batch)[4:])
    assert torch.equal(found.labels, batch.labels)
    assert torch.equal(found.targets[4:], torch.eye(3)[batch.labels[4:]])
    # The first half mixes within itself: no class from outside of it.
    assert torch.allclose(found.targets[0] + found.targets[3], torch.eye(3)[batch.labels[[0, 3]]].sum(0), atol=1e-5)


@pytest.mark.parametrize(("count", "first"), [(1, 0), (5, 2)])
def test_halves_of_an_odd_batch_give_the_second_list_one_more(count, first):
    batch = tokens(count)
    assert touched([{"halves": [[], [ON]]}], batch, 0).tolist() == [False] * first + [True] * (count - first)


RELEASED_NOISE = {"kind": "emb_noise", "preset": "released"}
RELEASED_COLOR = {"kind": "color_adapt", "preset": "released"}
COLOR = {"one_of": [RELEASED_NOISE, RELEASED_COLOR]}


@pytest.mark.parametrize(
    ("steps", "noise", "color"),
    [
        ([RELEASED_NOISE], 0.5, 0.0),
        ([{"sometimes": 0.75, "do": [{**COLOR, "weights": [0.5, 0.25]}]}], 0.25, 0.125),
        ([{**COLOR, "weights": [0.75, 0.25]}], 0.375, 0.125),
        ([], 0.0, 0.0),
    ],
)
def test_the_recipes_of_the_releases_reach_their_effective_rates(steps, noise, color):
    batch = tokens(8, side=6)
    values = CODEBOOK.lookup(batch.indices)
    centred = (values - values.mean((2, 3), keepdim=True)).flatten(1)
    rates = torch.zeros(2)
    for seed in range(400):
        found = policy(*steps)(batch, seeded(seed)).values
        moved = (found != values).flatten(1).any(1)
        # ColorAdapt scales each channel, so its result still correlates perfectly with the original per channel.
        flat = (found - found.mean((2, 3), keepdim=True)).flatten(2)
        similarity = torch.cosine_similarity(flat, centred.view_as(flat), dim=2).amin(1)
        rates += torch.stack([(moved & (similarity < 0.999)).sum(), (moved & (similarity >= 0.999)).sum()]) / 3200
    assert abs(rates[0] - noise) < 0.05
    assert abs(rates[1] - color) < 0.04


def test_no_gradient_is_recorded_and_the_global_generator_is_never_drawn_from():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    policy({"kind": "token_eda"}, ON, {"kind": "color_adapt"}, {"kind": "mixup"}, {"kind": "token_rrc"})(
        tokens(), seeded()
    )
    assert torch.equal(torch.get_rng_state(), before)
    values = CODEBOOK.lookup(tokens().indices).requires_grad_()
    assert not policy(ON)(tokens().with_values(values), seeded()).values.requires_grad
