"""byol: the loss of both directions, the averages, and morphed patches at equal places."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.objectives.building import CLASSES, pixel_batch, stir, vit_spec
from tokexp.data.base import Batch
from tokexp.models.pixel_input import PixelInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.byol import BootstrapYourOwnLatent
from tokexp.registry import implementation
from tokexp.spec.bootstrap import Byol


def byol(**fields: Any) -> Any:
    torch.manual_seed(3)
    spec = Byol.model_validate({"kind": "byol", "hidden": 16, "features": 8, "decay": 0.75, **fields})
    built = implementation("objectives", "byol")(
        spec, ObjectiveContext(build_vit(vit_spec(), 3, (8, 12)), PixelInput("half"), CLASSES)
    )
    assert isinstance(built, BootstrapYourOwnLatent)
    stir(built)
    return built.train()


def two_views(samples: int = 6) -> Batch:
    batch = pixel_batch(samples)
    assert batch.values is not None
    noise = torch.rand(batch.values.shape, generator=torch.Generator().manual_seed(4))
    return replace(batch, other_view=(batch.values + noise) / 2)


def through(mlp: nn.Sequential, rows: Tensor) -> Tensor:
    first, norm, _, last = mlp
    hidden = rows @ first.weight.T + first.bias
    hidden = (hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt() * norm.weight + norm.bias
    return hidden.clamp_min(0) @ last.weight.T + last.bias


def test_the_loss_is_the_formula_over_both_directions() -> None:
    objective, batch = byol(), two_views()
    with torch.no_grad():
        for weight in objective.average.parameters():
            weight.mul_(1.1)
    views, losses = (batch.values, batch.other_view), []
    for mine, other in ((0, 1), (1, 0)):
        features = objective.backbone(objective.token_input(views[mine]))
        online = through(objective.predictor, through(objective.projector, features))
        features = objective.average.backbone(objective.average.token_input(views[other]))
        wanted = through(objective.average_projector, features)
        losses.append(
            ((online / online.norm(dim=1)[:, None] - wanted / wanted.norm(dim=1)[:, None]) ** 2).sum(1).mean()
        )
    output = objective(batch, torch.Generator())
    torch.testing.assert_close(output.loss, losses[0] + losses[1], atol=1e-5, rtol=1e-5)
    assert output.metrics["similarity"].item() == pytest.approx(1 - output.loss.item() / 4, abs=1e-6)


def test_only_the_student_gets_gradients_and_the_averages_follow() -> None:
    objective = byol()
    objective(two_views(), torch.Generator()).loss.backward()
    for module in (objective.average, objective.average_projector):
        assert all(parameter.grad is None for parameter in module.parameters())
    before = [each.clone() for each in objective.average_projector.parameters()]
    objective.after_step()
    for old, new, student in zip(
        before, objective.average_projector.parameters(), objective.projector.parameters(), strict=True
    ):
        torch.testing.assert_close(new.data, 0.75 * old + 0.25 * student.data)


def test_no_running_statistics_are_kept() -> None:
    assert not any("running" in name for name in byol().state_dict())


def test_morphing_compares_patches_with_the_averages_of_the_other_view() -> None:
    objective, batch = byol(dtm={"weight": 0.5, "grouper": {"kind": "ungrouped"}}), two_views()
    views, losses = (batch.values, batch.other_view), []
    for mine, other in ((0, 1), (1, 0)):
        vit, average = objective.backbone, objective.average.backbone
        patches = vit.norm(vit.encode(vit.embed(objective.token_input(views[mine]))))[:, 1:]
        wanted = average.norm(average.encode(average.embed(objective.token_input(views[other]))))[:, 1:]
        losses.append(1 - torch.cosine_similarity(objective.patch_predictor(patches), wanted, dim=-1).mean())
    output = objective(batch, torch.Generator())
    torch.testing.assert_close(output.metrics["morphing"], torch.stack(losses).mean().detach(), atol=1e-5, rtol=1e-5)
    plain = 4 - 4 * output.metrics["similarity"]
    torch.testing.assert_close(output.loss.detach(), plain + 0.5 * output.metrics["morphing"])


def test_one_view_is_not_enough() -> None:
    with pytest.raises(ValueError, match="two views"):
        byol()(pixel_batch(), torch.Generator())
