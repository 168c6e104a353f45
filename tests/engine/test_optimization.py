import math
from typing import Any

import pytest
import torch
from torch import nn

from tokexp.data.base import Batch
from tokexp.engine.optimization import Schedule, build_optimizer, parameter_groups
from tokexp.objectives.base import Objective, StepOutput
from tokexp.spec.objectives import Mtm
from tokexp.spec.tasks import Classify
from tokexp.spec.train import TrainSpec


class Layered(Objective):
    """Three layers, the first with a two-dimensional parameter that has no decay."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
        self.token = nn.Parameter(torch.zeros(1, 2))

    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        raise AssertionError

    def undecayed(self) -> set[str]:
        return {"token"}

    def layer_groups(self) -> list[list[nn.Parameter]]:
        first, *rest = [list(layer.parameters()) for layer in self.layers]
        return [[*first, self.token], *rest]


def spec(**values: Any) -> TrainSpec:
    return TrainSpec.model_validate({"epochs": 10, "batch_size": 10, "lr": 1.0, **values})


def rates(train: TrainSpec, num_images: int = 100) -> list[float]:
    optimizer = build_optimizer(Layered(), train)
    schedule = Schedule(optimizer, train, num_images)
    found = []
    for step in range(train.total_steps(num_images)):
        schedule.set(step)
        found.append(max(group["lr"] for group in optimizer.param_groups))
    return found


def test_layer_decay_scales_by_the_distance_to_the_last_group() -> None:
    groups = parameter_groups(Layered(), spec(layer_decay=0.65))
    assert sorted({group["lr_scale"] for group in groups}) == pytest.approx([0.65**2, 0.65, 1.0])  # type: ignore[type-var]


def test_layer_decay_reaches_the_rates_that_are_used() -> None:
    train = spec(layer_decay=0.5, schedule={"name": "constant"})
    optimizer = build_optimizer(Layered(), train)
    Schedule(optimizer, train, 100).set(0)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.25, 0.5, 1.0])


def test_one_dimensional_and_named_parameters_have_no_decay() -> None:
    objective = Layered()
    groups = parameter_groups(objective, spec(weight_decay=0.1))
    plain = {id(p) for group in groups if group["weight_decay"] == 0.0 for p in group["params"]}  # type: ignore[attr-defined]
    assert plain == {id(objective.token), *(id(layer.bias) for layer in objective.layers)}


def test_warm_up_is_linear_and_the_cosine_follows_its_formula() -> None:
    found = rates(spec(warmup=0.2, schedule={"min_lr": 0.1}))
    expected = [step / 20 for step in range(20)]
    expected += [0.1 + 0.45 * (1 + math.cos(math.pi * step / 80)) for step in range(80)]
    assert found == pytest.approx(expected)


def test_a_single_update_is_made_at_the_peak_and_nothing_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    train = spec(epochs=1, batch_size=4, lr=0.5, warmup=0.0)
    optimizer = build_optimizer(Layered(), train)
    Schedule(optimizer, train, num_images=4).set(0)
    assert optimizer.param_groups[-1]["lr"] == 0.5
    assert not caplog.records


def test_without_a_prefix_the_warm_up_covers_the_first_part_of_the_cosine() -> None:
    found = rates(spec(warmup=0.2, schedule={"warmup_prefix": False}))
    expected = [step / 20 for step in range(20)]
    expected += [0.5 * (1 + math.cos(math.pi * step / 100)) for step in range(20, 100)]
    assert found == pytest.approx(expected)


def test_linear_and_constant_schedules() -> None:
    assert rates(spec(schedule={"name": "linear"})) == pytest.approx([1 - step / 100 for step in range(100)])
    assert rates(spec(schedule={"name": "constant"})) == [1.0] * 100


def test_the_lagged_epoch_schedule_keeps_the_first_two_epochs_alike() -> None:
    found = rates(spec(schedule={"unit": "epoch_lagged"}))
    by_epoch = [found[10 * epoch] for epoch in range(10)]
    assert by_epoch[0] == by_epoch[1] == 1.0
    assert by_epoch[2] == pytest.approx(0.5 * (1 + math.cos(math.pi * 10 / 100)))
    assert all(len(set(found[10 * epoch : 10 * epoch + 10])) == 1 for epoch in range(10))


def test_published_recipes_come_to_the_published_rates() -> None:
    pretrain = Mtm.model_validate({"kind": "mtm", "preset": "released"}).train
    tuned = Classify.model_validate({"kind": "classify", "preset": "released"}).train
    scratch = Classify.model_validate({"kind": "classify", "preset": "scratch"}).train
    assert [pretrain.peak_lr(), tuned.peak_lr(), scratch.peak_lr()] == pytest.approx([2.4e-3, 4e-3, 1.5e-3])


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lamb", "lars", "lion", "muon", "nadamw", "rmsprop"])
def test_every_optimizer_makes_a_step(name: str) -> None:
    objective = Layered()
    optimizer = build_optimizer(objective, spec(optimizer={"name": name}))
    before = objective.layers[0].weight.detach().clone()
    sum(p.square().sum() + p.sum() for p in objective.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    assert not torch.equal(before, objective.layers[0].weight)
    assert torch.isfinite(objective.layers[0].weight).all()
