"""The augmentations on maps of cosine coefficients: every place moves with all of its coefficients."""

import torch

from tokexp.augment.adapt_outputs import chosen, distance, outputs_of
from tokexp.augment.base import AugmentContext
from tokexp.augment.policy import build_step
from tokexp.augment.token_eda import level_synonyms
from tokexp.data.base import Batch
from tokexp.spec.augment import AugmentSpec
from tokexp.tokenizers.coefficient_maps import CoefficientBook, CoefficientLayout

SIDE, CHANNELS, COUNT = 8, 3, 16
LEVELS = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 5.0])[:, None]
GAINS = torch.tensor([1.0, 0.5, 0.25])
BOOK = CoefficientBook(LEVELS, CoefficientLayout(CHANNELS, 0, False), GAINS, torch.tensor([1.0, 2.0, 3.0]))


def applied(step: dict[str, object], indices: torch.Tensor, grid: tuple[int, int] = (SIDE, SIDE)) -> Batch:
    built = build_step(AugmentSpec.model_validate([step]).task[0], AugmentContext(grid, BOOK))
    batch = Batch(torch.arange(len(indices)) % 4, 4, indices=indices)
    return built(batch, torch.Generator().manual_seed(0))


def random_levels() -> torch.Tensor:
    return torch.randint(len(LEVELS), (COUNT, CHANNELS, SIDE, SIDE), generator=torch.Generator().manual_seed(1))


def test_synonyms_of_a_level_are_its_neighbours_and_zero_has_none() -> None:
    table = level_synonyms(LEVELS, 2)
    assert [sorted(row) for row in table.tolist()] == [[1, 2], [0, 2], [2, 2], [2, 4], [2, 3], [3, 4]]


def test_token_eda_swaps_levels_for_neighbours_and_leaves_zeros() -> None:
    before = random_levels()
    after = applied({"kind": "token_eda", "synonym": 1.0, "swap": 0.0, "replace": 0.5, "neighbours": 2}, before).indices
    assert after is not None
    changed = after != before
    assert not changed[before == 2].any()
    assert 0.4 < changed[before != 2].float().mean() < 0.6
    table = level_synonyms(LEVELS, 2)
    assert (table[before[changed]] == after[changed][:, None]).any(1).all()


def test_token_eda_exchanges_blocks_with_all_their_coefficients() -> None:
    first = random_levels()[:, :1]
    places = torch.cat([first, (first + 1) % 6, (first + 2) % 6], dim=1)
    moved = applied({"kind": "token_eda", "synonym": 0.0, "swap": 1.0, "swap_scale": 0.5}, places).indices
    assert moved is not None
    assert (moved != places).any()
    assert torch.equal(moved[:, 1], (moved[:, 0] + 1) % 6)
    assert torch.equal(moved[:, 2], (moved[:, 0] + 2) % 6)


def test_token_crop_cuts_the_same_places_of_every_coefficient() -> None:
    places = torch.arange(SIDE * SIDE).view(1, 1, SIDE, SIDE).expand(COUNT, CHANNELS, -1, -1)
    cut = applied({"kind": "token_crop"}, places, grid=(5, 6)).indices
    assert cut is not None
    assert cut.shape == (COUNT, CHANNELS, 5, 6)
    assert (cut == cut[:, :1]).all()
    assert (cut[..., 1:, :] - cut[..., :-1, :] == SIDE).all()


def test_token_rrc_resizes_what_the_levels_stand_for() -> None:
    indices = random_levels()
    step = {"kind": "token_rrc", "scale": [0.3, 0.9]}
    found = applied(step, indices, grid=(6, 6)).values
    context = AugmentContext((6, 6), BOOK)
    built = build_step(AugmentSpec.model_validate([step]).task[0], context)
    batch = Batch(torch.arange(COUNT), COUNT, values=LEVELS[:, 0][indices] * GAINS[:, None, None])
    expected = built(batch, torch.Generator().manual_seed(0)).values
    assert found is not None
    assert torch.equal(found, expected)


def test_relative_noise_is_as_large_as_every_coefficient_is() -> None:
    step = {"kind": "emb_noise", "relative": True, "channel_std": 0.0, "element_std": 1.0, "prob": 1.0}
    indices = random_levels()
    noisy = applied(step, indices).values
    assert noisy is not None
    added = (noisy - BOOK.lookup(indices)).transpose(0, 1).flatten(1).std(1)
    assert torch.allclose(added, torch.tensor([1.0, 2.0, 3.0]), rtol=0.1)


def test_token_adapt_gives_a_number_per_coefficient_and_takes_its_nearest_level() -> None:
    indices = random_levels()
    outputs = BOOK.lookup(indices).flatten(2).transpose(1, 2)
    assert outputs_of(BOOK) == CHANNELS
    assert distance(outputs, indices.flatten(2), BOOK) == 0
    assert distance(outputs + 0.5, indices.flatten(2), BOOK).item() == 0.25
    for expected in (False, True):
        assert torch.equal(chosen(outputs + 0.1 * GAINS, BOOK, (SIDE, SIDE), expected), indices)
