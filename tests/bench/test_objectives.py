"""The operations that the bench of objectives counts are those that torch counts."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tokexp.bench import objectives


@pytest.mark.parametrize("kind", ["mim", "mapet"])
def test_counted_operations_are_torchs(kind: str) -> None:
    objective, batch = objectives.material(kind, torch.device("cpu"), 1, width=24, depth=3, heads=2)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective(batch, torch.Generator().manual_seed(0))
    formula = objectives.mapet_operations if kind == "mapet" else objectives.mim_operations
    assert counter.get_total_flops() == 2 * formula(width=24, depth=3)


def test_the_published_size_stays_below_the_goal_by_its_operations() -> None:
    assert 2.1 < objectives.mapet_operations() / objectives.mim_operations() < objectives.GOAL
