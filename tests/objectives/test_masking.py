import math

import pytest
import torch

from tokexp.objectives.masking import draw_ratio, dropped_count, masked_count, rank_patches, ratio_at
from tokexp.spec.objectives import MaskSpec

MAGE = MaskSpec(scheme="mage")


def drawn(spec: MaskSpec, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.tensor([draw_ratio(spec, generator) for _ in range(count)])


def test_ratios_have_the_published_mean_deviation_and_tail() -> None:
    ratios = drawn(MAGE, 40_000)
    assert ratios.mean().item() == pytest.approx(0.607, abs=0.003)
    assert ratios.median().item() == pytest.approx(0.584, abs=0.004)
    assert ratios.std().item() == pytest.approx(0.143, abs=0.003)
    assert (ratios > 0.75).float().mean().item() == pytest.approx(0.179, abs=0.008)
    assert ratios.min() >= 0.4
    assert ratios.max() <= 1.0


def test_the_quantiles_are_those_of_the_truncated_normal() -> None:
    spec = MaskSpec(mean=0.55, std=0.25, low=0.5, high=1.0)

    def share_below(ratio: float) -> float:
        def normal(x: float) -> float:
            return math.erf((x - 0.55) / (0.25 * math.sqrt(2)))

        return (normal(ratio) - normal(0.5)) / (normal(1.0) - normal(0.5))

    for uniform in (0.0, 0.1, 0.5, 0.9, 0.999):
        assert share_below(ratio_at(spec, uniform)) == pytest.approx(uniform, abs=1e-9)


@pytest.mark.parametrize(("low", "high"), [(0.7, 0.7), (0.9, 1.0)], ids=["one ratio", "far in the tail"])
def test_extreme_bounds_are_kept(low: float, high: float) -> None:
    ratios = drawn(MaskSpec(mean=0.1, std=0.01, low=low, high=high), 50)
    assert low - 1e-6 <= ratios.min() <= ratios.max() <= high + 1e-6


def test_the_masked_count_is_the_rounded_up_share() -> None:
    assert [masked_count(MAGE, 196, ratio) for ratio in (0.4, 0.5, 0.6071, 1.0)] == [79, 98, 119, 196]
    assert masked_count(MaskSpec(low=0.07), 100, 0.07) == 7
    assert masked_count(MaskSpec(low=0.0), 16, 0.0) == 1


def test_the_release_always_drops_the_same_number_of_patches() -> None:
    counts = {dropped_count(MAGE, 196, masked_count(MAGE, 196, ratio)) for ratio in (0.4, 0.41, 0.7, 1.0)}
    assert counts == {79}


def test_scheme_mae_drops_all_masked_patches_and_keeps_some_visible() -> None:
    spec = MaskSpec(scheme="mae", visible=3)
    assert masked_count(spec, 16, 1.0) == 13
    assert masked_count(spec, 16, 0.5) == 8
    assert dropped_count(spec, 16, 8) == 8


def test_every_sample_has_its_own_uniform_order_of_all_patches() -> None:
    ranking = rank_patches(MAGE, 6_000, 8, torch.Generator().manual_seed(1))
    assert torch.equal(ranking.order.sort(dim=1).values, torch.arange(8).expand(6_000, -1))
    first = torch.bincount(ranking.order[:, 0], minlength=8) / 6_000
    torch.testing.assert_close(first, torch.full((8,), 1 / 8), atol=0.02, rtol=0)


def test_equal_generators_give_equal_rankings_and_later_draws_differ() -> None:
    one, two = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    first, second = rank_patches(MAGE, 3, 196, one), rank_patches(MAGE, 3, 196, two)
    assert torch.equal(first.order, second.order)
    assert first.masked == second.masked
    later = [rank_patches(MAGE, 3, 196, one).masked for _ in range(8)]
    assert len({first.masked, *later}) > 1


class _ElsewhereGenerator:
    """Stands for a generator on an accelerator: its state is on the host, numbers drawn from it are not."""

    device = torch.device("cuda")

    def __init__(self, state: int) -> None:
        self.state = state

    def get_state(self) -> torch.Tensor:
        return torch.tensor([7, self.state], dtype=torch.int64).view(torch.uint8)


def test_on_another_device_the_state_of_the_generator_decides_the_ratio() -> None:
    ratios = torch.tensor([draw_ratio(MAGE, _ElsewhereGenerator(state)) for state in range(4_000)])  # type: ignore[arg-type]
    assert draw_ratio(MAGE, _ElsewhereGenerator(5)) == pytest.approx(ratios[5].item())  # type: ignore[arg-type]
    assert ratios.mean().item() == pytest.approx(0.607, abs=0.01)
    assert ratios.std().item() == pytest.approx(0.143, abs=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_on_a_gpu_moves_on_between_draws() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    rankings = [rank_patches(MAGE, 4, 196, generator) for _ in range(8)]
    assert len({ranking.masked for ranking in rankings}) > 1
    assert all(ranking.order.device.type == "cuda" for ranking in rankings)
