"""The bench of graphs counts breaks and recompilations, and finds them where there are some."""

from typing import Any

import pytest
import torch

from tokexp.bench import graphs
from tokexp.objectives.base import StepOutput


def test_an_objective_of_the_papers_has_neither_and_both_are_judged() -> None:
    breaks, again = graphs.case_rows("mapet", steps=4)
    assert (breaks.value, breaks.bound, breaks.holds) == (0, 0, True)
    assert (again.value, again.bound, again.holds) == (0, 0, True)
    assert breaks.anchor == "1 in all"


def test_a_break_and_a_graph_compiled_late_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, batch = graphs.material("supervised")
    plain, lengths = objective.forward, iter([1, 1, 1, 2, 2])

    def forward(*given: Any) -> StepOutput:
        count = next(lengths)
        torch._dynamo.graph_break()
        output: StepOutput = plain(*given)
        return StepOutput(sum([output.loss] * count) + torch.zeros(count).sum(), {})  # type: ignore[arg-type]

    monkeypatch.setattr(objective, "forward", forward)
    monkeypatch.setattr(graphs, "material", lambda **fields: (objective, batch))
    breaks, again = graphs.case_rows("mim", steps=5)
    assert breaks.holds is False
    assert again.holds is False


@pytest.mark.parametrize("name", graphs.CASES)
def test_every_case_can_be_built(name: str) -> None:
    objective, batch = graphs.material(**graphs.CASES[name])
    assert torch.isfinite(objective(batch, torch.Generator().manual_seed(0)).loss)
