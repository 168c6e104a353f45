"""What is drawn for a micro-batch is drawn on its device: nothing is read back, and no dense mask of a sample is made.

torch's device `meta` stands in for one that this machine may not have: its tensors have a shape but no values, so that
asking one for a value, as a copy to the host or a branch would, is an error.
"""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.objectives.test_compiled import batch_for, built

SAMPLES, DEVICE = 5, torch.device("meta")


class DeviceGenerator(torch.Generator):
    """A generator that says it is on a device."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return DEVICE


def tensors(drawn: Any) -> list[Tensor]:
    if isinstance(drawn, Tensor):
        return [drawn]
    values = [getattr(drawn, each.name) for each in fields(drawn)]
    return [value for value in values if isinstance(value, Tensor)]


def drawn(kind: str, **options: Any) -> list[Tensor]:
    objective: Any = built(kind, **options)
    return tensors(objective.draw(SAMPLES, DeviceGenerator()))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mim", {}), ("beit", {}), ("beit", {"blocks": {"smallest": 4, "exact": False}}), ("pim", {}), ("mapet", {}),
        ("cae", {}), ("data2vec", {}), ("data2vec", {"blocks": {"smallest": 4, "exact": False}}), ("dtm", {}),
        ("mae", {}),
    ],
)  # fmt: skip
def test_masks_are_drawn_on_the_device_and_take_a_number_or_two_for_a_patch(kind: str, options: dict[str, Any]) -> None:
    found = drawn(kind, **options)
    patches = 4 * 6
    assert found
    assert all(each.device == DEVICE for each in found)
    assert sum(each.numel() for each in found) <= SAMPLES * (patches + 1)


def test_a_value_that_is_read_back_would_be_noticed() -> None:
    drawn = torch.rand(3, generator=DeviceGenerator(), device=DEVICE)
    with pytest.raises(RuntimeError, match="meta"):
        drawn.sum().item()
    with pytest.raises(NotImplementedError, match="meta"):
        drawn.cpu()


@pytest.mark.parametrize("kind", ["pim", "mapet"])
def test_which_rank_sees_which_is_one_mask_for_all_samples(kind: str) -> None:
    objective: Any = built(kind)
    assert objective.bias.ndim == 2
    assert "bias" in dict(objective.named_buffers())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["mim", "beit", "pim", "mapet", "cae", "data2vec", "dtm", "mae"])
def test_a_step_on_a_gpu_never_waits_for_it(kind: str) -> None:
    objective: Any = built(kind).to("cuda")
    batch = batch_for(objective, kind, 0)
    on_gpu = {
        each.name: value.cuda() for each in fields(batch) if isinstance(value := getattr(batch, each.name), Tensor)
    }
    batch, generator = replace(batch, **on_gpu), torch.Generator("cuda").manual_seed(0)
    objective(batch, generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        objective(batch, generator).loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
