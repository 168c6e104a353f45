"""Objectives that predict tokens compile into one graph: no breaks, and nothing is compiled again as masks vary."""

from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from tests.objectives.building import pixel_batch, predictor

CAE: dict[str, Any] = {"blocks": {"smallest": 10, "exact": False}, "neck": {"width": None}}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("mim", {}), ("beit", {"blocks": {"smallest": 10, "exact": False}}), ("pim", {}), ("mapet", {}),
    ("cae", CAE), ("cae", {**CAE, "align_to": "lagged_copy", "neck": {"width": 16, "heads": 2}}),
    ("data2vec", {"top_blocks": 2}), ("data2vec", {"top_blocks": 1, "preset": "released", "blocks": {"smallest": 10}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields"), CASES)
def test_the_step_is_one_graph_however_masks_are_drawn(kind: str, fields: dict[str, Any]) -> None:
    torch._dynamo.reset()
    counters.clear()
    objective = predictor(kind, pixels=True, **fields)
    compiled = torch.compile(objective, backend="eager")
    for step in range(5):
        batch, generator = pixel_batch(seed=step), torch.Generator().manual_seed(step)
        loss = compiled(batch, generator).loss
        loss.backward()
        torch.testing.assert_close(loss, objective(batch, torch.Generator().manual_seed(step)).loss)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1
