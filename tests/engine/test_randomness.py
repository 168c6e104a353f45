import torch

from tokexp.engine.randomness import generator, key_of, permutation


def test_draws_depend_on_seed_purpose_and_place_alone() -> None:
    torch.manual_seed(1)
    first = torch.rand(4, generator=generator(0, "augment", 3, 1))
    torch.manual_seed(2)
    assert torch.equal(first, torch.rand(4, generator=generator(0, "augment", 3, 1)))


def test_every_place_has_its_own_key() -> None:
    places = [(0, "a", 1, 2), (1, "a", 1, 2), (0, "b", 1, 2), (0, "a", 2, 1), (0, "a", 12), (0, "a", 1, 2, 0)]
    assert len({key_of(seed, purpose, *rest) for seed, purpose, *rest in places}) == len(places)  # type: ignore[arg-type]


def test_an_epoch_shows_every_image_once_in_its_own_order() -> None:
    first, second = permutation(100, 0, 0), permutation(100, 0, 1)
    assert sorted(first.tolist()) == list(range(100))
    assert not torch.equal(first, second)
    assert torch.equal(first, permutation(100, 0, 0))
