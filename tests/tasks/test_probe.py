"""The linear probe on a backbone that passes its input through."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tokexp.models.base import Backbone
from tokexp.objectives.base import Objective
from tokexp.spec.tasks import Probe, Validation
from tokexp.spec.train import TrainSpec
from tokexp.tasks.base import TaskContext
from tokexp.tasks.probe import LinearProbe, build


class Through(Backbone):
    """Features are the values themselves."""

    in_channels, input_grid, patch_grid, width = 6, (1, 1), (1, 1), 6

    def embed(self, values: Tensor) -> Tensor:
        return values.flatten(2).transpose(1, 2)

    def encode(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        return torch.cat([torch.zeros_like(patches[:, :1]), patches], 1)

    def pool(self, encoded: Tensor, how: str = "mean") -> Tensor:
        return encoded[:, 1:].mean(1)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        return []


class Data:
    """Three noisy clusters; also the trainer that offers them."""

    def __init__(self, seed: int = 0) -> None:
        draws = torch.Generator().manual_seed(5)
        self.seed = seed
        self.labels = torch.arange(240) % 3
        centres = torch.randn(3, 6, generator=draws)
        self.values = centres[self.labels] + 0.8 * torch.randn(240, 6, generator=draws)

    def fit(self, objective: Objective, train: TrainSpec, validation: Validation | None) -> dict[str, float]:
        raise AssertionError("a probe trains no encoder")

    def features(self, extract: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        return extract(self.values[:, :, None, None]), self.labels

    def progress(self, done: int, total: int, unit: str) -> None:
        pass


def probe(**values: object) -> LinearProbe:
    torch.manual_seed(0)
    spec = Probe.model_validate({"kind": "probe", "epochs": 5, "batch_size": 32, **values})
    return build(spec, TaskContext(Through(), nn.Identity(), 3))


def accuracy(task: LinearProbe, data: Data) -> float:
    return float((task.logits(data.values[:, :, None, None]).argmax(1) == data.labels).float().mean())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_probe_learns_separable_features(optimizer: str) -> None:
    data, task = Data(), probe(optimizer=optimizer, lrs=[0.1])
    task.train_with(data)
    assert accuracy(task, data) > 0.9


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_classifiers_side_by_side_equal_one_trained_alone(optimizer: str) -> None:
    data, rates = Data(), (0.003, 0.3)
    features, labels = data.values, data.labels
    weight, bias = probe(optimizer=optimizer, lrs=list(rates), weight_decay=0.01)._fit_all(features, labels, data)
    for number, rate in enumerate(rates):
        layer = nn.Linear(6, 3)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        kind = torch.optim.AdamW if optimizer == "adamw" else torch.optim.SGD
        extra = {} if optimizer == "adamw" else {"momentum": 0.9}
        plain = kind(layer.parameters(), lr=rate, weight_decay=0.01, **extra)  # type: ignore[arg-type]
        for step in range(35):
            if step % 7 == 0:
                order = torch.randperm(240, generator=torch.Generator().manual_seed(step))
            chosen = order[step % 7 * 32 :][:32]
            plain.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / 35))
            plain.zero_grad()
            cross_entropy(layer(features[chosen]), labels[chosen]).backward()
            plain.step()
        torch.testing.assert_close(weight[number], layer.weight, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(bias[number], layer.bias, atol=1e-5, rtol=1e-4)


def test_the_best_rate_on_held_out_images_is_kept() -> None:
    data, task = Data(), probe(lrs=[1e-7, 0.1])
    found = task.train_with(data)
    assert found["lr"] == 0.1
    assert found["select_top1"] > 0.8


def test_features_are_standardised_as_the_training_images_are() -> None:
    data, task = Data(), probe()
    task.train_with(data)
    torch.testing.assert_close(task.mean, data.values.mean(0))
    torch.testing.assert_close(task.std, data.values.std(0))


def test_nothing_of_the_encoder_is_trained() -> None:
    assert not any(p.requires_grad for p in probe().parameters())
