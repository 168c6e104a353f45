"""The task `classify`: the supervised objective with the task's recipe."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.models.token_input import TokenInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.base import Objective
from tokexp.spec.models import VitSpec
from tokexp.spec.tasks import Classify, Validation
from tokexp.spec.train import TrainSpec
from tokexp.tasks.base import TaskContext
from tokexp.tasks.classify import Classification, build
from tokexp.tokenizers.base import Codebook


def task(**fields: Any) -> Classification:
    torch.manual_seed(0)
    model = VitSpec.model_validate({"kind": "vit", "width": 32, "depth": 2, "heads": 2, "stem": {"kind": "conv2x2"}})
    codes = Codebook(torch.randn(9, 4))
    spec = Classify.model_validate({"kind": "classify", **fields})
    return build(spec, TaskContext(build_vit(model, 4, (6, 6)), TokenInput(codes, "learned"), 5))


class Recorder:
    seed = 0

    def fit(self, objective: Objective, train: TrainSpec, validation: Validation | None) -> dict[str, float]:
        self.given = (objective, train, validation)
        return {"loss": 1.0}


def test_it_trains_its_objective_with_its_own_recipe() -> None:
    trainer, built = Recorder(), task(train={"epochs": 7}, validation={"fraction": 0.2})
    assert built.train_with(trainer) == {"loss": 1.0}  # type: ignore[arg-type]
    assert trainer.given == (built.objective, built.spec.train, Validation(fraction=0.2, every=1))
    assert trainer.given[1].epochs == 7


def test_logits_are_float32_under_mixed_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        logits = task().eval().logits(torch.randn(3, 4, 6, 6))
    assert (logits.dtype, logits.shape) == (torch.float32, (3, 5))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_smoothed_by_the_tasks_share(smoothing: float) -> None:
    built = task(label_smoothing=smoothing, head_std=1.0).eval()
    values, labels = torch.randn(3, 4, 6, 6), torch.tensor([0, 4, 2])
    logs: Tensor = built.logits(values).log_softmax(-1)
    target = (1 - smoothing) * nn.functional.one_hot(labels, 5) + smoothing / 5
    found = built.objective(Batch(labels, 5, values=values), torch.Generator()).loss
    torch.testing.assert_close(found, -(target * logs).sum(1).mean())


def test_the_head_starts_with_the_tasks_deviation() -> None:
    assert float(task().objective.head.weight.detach().std()) == pytest.approx(2e-5, rel=0.3)
    assert float(task(head_std=0.02).objective.head.weight.detach().std()) == pytest.approx(0.02, rel=0.3)


def test_the_token_table_stands_in_the_group_that_the_recipe_names() -> None:
    for preset, place in (("paper", 0), ("released", -1)):
        built = task(preset=preset)
        group = {id(parameter) for parameter in built.objective.layer_groups()[place]}
        assert id(built.objective.token_input.table.weight) in group
