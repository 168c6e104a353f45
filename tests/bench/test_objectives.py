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


SMALL = {"width": 24, "depth": 1, "heads": 2}


def test_dtm_is_compared_with_its_host_and_the_bound_of_a_gpu_is_judged_on_one_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    row = objectives.dtm_row(device, rounds=2, **SMALL)
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.value <= row.high
    assert row.bound == objectives.DTM_BOUND
    assert str(row.anchor).startswith("paper: 1.0097")
    if device.type == "cpu":
        assert row.holds is None
        assert "this is a CPU" in str(row.anchor)
    assert "(2 of 2)" in capsys.readouterr().err


def test_the_host_of_dtm_differs_from_it_in_the_grouping_alone() -> None:
    teacher = objectives.tower(torch.device("cpu"))
    losses, groups = [], []
    for grouper in ("bipartite", "ungrouped"):
        objective, batch = objectives.material("dtm", torch.device("cpu"), 1, teacher, grouper, **SMALL)
        with torch.no_grad():
            output = objective.eval()(batch, torch.Generator().manual_seed(0))
        losses.append(output.loss.item())
        groups.append(output.metrics["groups"].item())
    assert groups[0] < groups[1] == objectives.PATCHES
    assert losses[0] != losses[1]


def test_groupings_by_labels_are_judged_against_source_matrices_on_any_machine() -> None:
    row = objectives.grouping_row(torch.device("cpu"), images=2, rounds=2)
    assert row.bound == 1.0
    assert row.holds is (row.value <= 1.0)
    assert "196 tokens to" in str(row.anchor)
