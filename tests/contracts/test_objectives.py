"""What every objective holds: a finite scalar loss, gradients, draws from its generator alone, complete groups."""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter

from tests.objectives.building import context, token_batch, vit_spec
from tokexp.data.base import Batch
from tokexp.objectives.base import Objective
from tokexp.registry import implementation
from tokexp.spec.objectives import ObjectiveSpec
from tokexp.stages.pretrain import positions_of

MEMBERS = {
    member.model_fields["kind"].annotation.__args__[0]: member for member in get_args(get_args(ObjectiveSpec)[0])
}
_MOMENTUM: dict[str, Any] = {"target": {"kind": "momentum", "decay": 0.9}}
NEEDED: dict[str, dict[str, Any]] = {
    "dtm": _MOMENTUM, "byol": {"hidden": 32, "features": 8},
    "mae": {"decoder": {"width": 16, "depth": 1, "heads": 2}},
    "cae": {"neck": {"width": 16, "heads": 2}}, "data2vec": {"top_blocks": 2, "beta": 0.5},
}  # fmt: skip
"""What some kinds need beside their preset, or to be small."""

TERMS = {"mae": _MOMENTUM, "byol": {}}
"""Objectives that take a morphing term, and what it needs."""

CASES = [
    *(
        (kind, preset, "")
        for kind, member in MEMBERS.items()
        for preset in get_args(member.model_fields["preset"].annotation)
    ),
    *((kind, "paper", "dtm") for kind in TERMS),
]  # fmt: skip


@pytest.fixture(params=CASES, ids="/".join)
def objective(request: pytest.FixtureRequest) -> Any:
    kind, preset, term = request.param
    fields = NEEDED.get(kind, {}) | ({"dtm": TERMS[kind]} if term else {})
    spec = TypeAdapter(ObjectiveSpec).validate_python({"kind": kind, "preset": preset, **fields})
    torch.manual_seed(0)
    how = getattr(spec, "input", "codebook")
    positions = positions_of(kind)
    built = implementation("objectives", kind)(spec, context(vit_spec(), how, positions=positions, dropout=0.1))
    assert isinstance(built, Objective)
    return built


def batch_of(objective: Any) -> Batch:
    """Return embeddings of random tokens, and another view of them."""
    _, batch = token_batch(objective)
    assert batch.values is not None
    noise = torch.randn(batch.values.shape, generator=torch.Generator().manual_seed(2))
    return replace(batch, other_view=batch.values + 0.3 * noise)


def loss_of(objective: Any, seed: int = 1) -> torch.Tensor:
    torch.manual_seed(8)
    batch = batch_of(objective)
    loss: torch.Tensor = objective(batch, torch.Generator().manual_seed(seed)).loss
    return loss


def test_the_loss_is_one_finite_number_with_a_gradient(objective: Any) -> None:
    loss = loss_of(objective)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert loss.requires_grad


def test_metrics_are_finite_numbers_without_a_gradient(objective: Any) -> None:
    batch = batch_of(objective)
    metrics = objective(batch, torch.Generator().manual_seed(0)).metrics
    assert metrics
    for name, value in metrics.items():
        assert value.shape == (), name
        assert torch.isfinite(value), name
        assert not value.requires_grad, name


def test_every_trained_parameter_gets_a_gradient(objective: Any) -> None:
    loss_of(objective).backward()
    without = [n for n, p in objective.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    reached = [p for p in objective.backbone.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(reached) > 20


def test_equal_seeds_and_generators_give_equal_losses(objective: Any) -> None:
    assert torch.equal(loss_of(objective), loss_of(objective))


def test_the_batch_is_left_as_it_was(objective: Any) -> None:
    batch = batch_of(objective)
    before = batch.values.clone()  # type: ignore[union-attr]
    objective(batch, torch.Generator().manual_seed(0))
    assert torch.equal(batch.values, before)  # type: ignore[arg-type]


def test_lower_precision_gives_nearly_the_same_loss(objective: Any) -> None:
    full = loss_of(objective.eval())
    with torch.autocast("cpu", torch.bfloat16):
        low = loss_of(objective)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, full, atol=0.05, rtol=0)
    low.backward()
    assert all(torch.isfinite(p.grad).all() for p in objective.parameters() if p.grad is not None)


def test_layer_groups_hold_every_trained_parameter_once(objective: Any) -> None:
    listed = [id(p) for group in objective.layer_groups() for p in group if p.requires_grad]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in objective.parameters() if p.requires_grad}


def test_undecayed_names_are_parameters(objective: Any) -> None:
    assert objective.undecayed() <= {name for name, _ in objective.named_parameters()}


def test_a_state_loads_strictly_into_another_instance_and_gives_its_loss(objective: Any) -> None:
    expected = loss_of(objective.eval())
    state = {name: value.clone() for name, value in objective.state_dict().items()}
    with torch.no_grad():
        for parameter in objective.parameters():
            parameter.add_(1.0)
    assert not torch.equal(loss_of(objective), expected)
    objective.load_state_dict(state)
    assert torch.equal(loss_of(objective), expected)


def test_the_encoder_is_saved_under_the_names_that_tasks_load(objective: Any) -> None:
    names = set(objective.state_dict())
    assert {f"backbone.{name}" for name in objective.backbone.state_dict()} <= names
    assert {f"token_input.{name}" for name in objective.token_input.state_dict()} <= names


def test_a_few_updates_lower_the_loss_on_one_batch(objective: Any) -> None:
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 2e-3)
    before = loss_of(objective).item()
    for _ in range(25):
        optimizer.zero_grad()
        loss_of(objective).backward()
        optimizer.step()
    assert loss_of(objective).item() < before - 0.05
