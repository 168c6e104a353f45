"""What pre-trainings cost by the estimate, against the operations that torch counts in a step of theirs."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch.utils.flop_counter import FlopCounterMode

from tests.objectives.building import CLASSES, pixel_batch, vit_spec
from tokexp.models.pixel_input import PixelInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.base import ObjectiveContext
from tokexp.plan.pretraining_cost import TRAINING, blocks, forward_like
from tokexp.registry import implementation
from tokexp.spec.models import VitSpec
from tokexp.spec.objectives import ObjectiveSpec
from tokexp.spec.stages import PretrainStage
from tokexp.spec.target_source import TargetSource

GRID = (4, 6)
MOMENTUM = {"target": {"kind": "momentum"}}
NARROW = {"width": 32, "heads": 2, "regressor": 3, "decoder": 2}
CASES: list[dict[str, Any]] = [
    {"kind": "mim"}, {"kind": "pim"}, {"kind": "mapet"},
    {"kind": "mae", "decoder": {"width": 32, "depth": 3, "heads": 2}},
    {"kind": "mae", "decoder": {"width": 32, "depth": 3, "heads": 2}, "reconstruct": False, "dtm": MOMENTUM},
    {"kind": "cae", "neck": NARROW}, {"kind": "cae", "neck": {**NARROW, "width": None}, "align_to": "lagged_copy"},
    {"kind": "cae", "neck": NARROW, "align_weight": 0.0}, {"kind": "dtm", **MOMENTUM},
    {"kind": "byol", "hidden": 8, "features": 8}, {"kind": "data2vec", "top_blocks": 2},
]  # fmt: skip


def model() -> VitSpec:
    return vit_spec(width=64, depth=4, heads=2, input="pixels")


def payload(fields: dict[str, Any], **target: Any) -> PretrainStage:
    """Return a pre-training without stochastic depth, which would leave work out."""
    undropped = {} if fields["kind"] == "mae" else {"drop_path": 0.0}
    given: Any = TypeAdapter(ObjectiveSpec).validate_python({**undropped, **fields})
    return PretrainStage(kind="pretrain", model=model(), policy=(), objective=given, **target)


def counted(stage: PretrainStage) -> float:
    """Return the operations of a step's forward and backward pass for one image, as torch counts them."""
    torch.manual_seed(0)
    made = ObjectiveContext(build_vit(stage.model, 3, (8, 12)), PixelInput("half"), CLASSES, target_codes=8)  # type: ignore[arg-type]
    objective = implementation("objectives", stage.objective.kind)(stage.objective, made).train()
    batch = pixel_batch(4, codes=8)
    batch = replace(batch, other_view=batch.values)
    with FlopCounterMode(display=False) as counter:
        objective(batch, torch.Generator().manual_seed(0)).loss.backward()
    return counter.get_total_flops() / 4


@pytest.mark.parametrize("fields", CASES, ids=lambda fields: "-".join(map(str, [*fields, fields["kind"]])))
def test_a_step_costs_what_is_estimated(fields: dict[str, Any]) -> None:
    stage = payload(fields)
    assert TRAINING * forward_like(stage, lambda _: GRID) == pytest.approx(counted(stage), rel=0.1)


def test_a_trained_teacher_costs_its_own_forward_pass() -> None:
    teacher = {"kind": "dtm", "target": {"kind": "teacher", "from": {"stage": "teacher"}}}
    other = vit_spec(width=128, depth=2, heads=2, input="pixels")
    found = forward_like(payload(teacher, target=TargetSource(role="downstream", model=other)), lambda _: GRID)
    assert found == pytest.approx(model().operations(GRID) + other.operations(GRID) / 3)


def test_a_tower_of_timm_costs_as_a_vit_base() -> None:
    tower = payload({"kind": "dtm", "target": {"kind": "timm", "random": True}})
    base = vit_spec(size="base").operations(GRID)
    assert forward_like(tower, lambda _: GRID) == pytest.approx(model().operations(GRID) + base / 3)
    assert blocks(12, 25, 768) == base
