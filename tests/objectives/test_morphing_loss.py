"""The morphing loss against the text's form, with source matrices and means written back to every token."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tokexp.objectives.groupers.base import Grouping, group_sums
from tokexp.objectives.morphing.loss import distance_of, group_means, morphing_loss
from tokexp.objectives.morphing.matrices import matrix_loss, source_matrix
from tokexp.objectives.morphing.schedules import Level
from tokexp.objectives.morphing.term import Morphed, Morphing
from tokexp.spec.morphing import MorphingSpec, made_steps

DISTANCES = ["cosine", "l1", "l2", "smooth_l1"]


def spec(**fields: Any) -> MorphingSpec:
    return MorphingSpec.model_validate(fields)


def pair(count: int = 36, width: int = 8) -> tuple[Tensor, Tensor]:
    student, target = torch.randn(2, 3, count, width, generator=torch.Generator().manual_seed(0))
    return student.requires_grad_(), target


def labelled(target: Tensor, groups: int = 11) -> Grouping:
    labels = torch.stack([torch.arange(target.shape[1]) * (2 * image + 3) % groups for image in range(len(target))])
    return Grouping(labels, groups)


def loss_of(student: Tensor, target: Tensor, grouping: Grouping, **fields: Any) -> Tensor:
    found = spec(**fields)
    return morphing_loss(student, grouping, group_means(target, grouping), distance_of(found), found.standardise)


@pytest.mark.parametrize("distance", DISTANCES)
def test_it_is_the_mean_over_tokens_of_the_distance_between_their_groups_means(distance: str) -> None:
    student, target = pair()
    grouping, far = labelled(target), distance_of(spec(distance=distance))
    assert grouping.labels is not None
    rows = []
    for u, v, labels in zip(student, target, grouping.labels, strict=True):
        for token in labels.tolist():
            mine = labels == token
            rows.append(far(u[mine].mean(0), v[mine].mean(0)))
    torch.testing.assert_close(loss_of(student, target, grouping, distance=distance), torch.stack(rows).mean())


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("steps", [(5,) * 4, (18,), (16, 9, 4), (1,) * 6])
def test_labels_and_source_matrices_give_one_loss_and_one_gradient(
    steps: tuple[int, ...], protected: bool, distance: str
) -> None:
    level = Level(36, made_steps(36, steps, protected))
    (student, target), given = (
        pair(),
        spec(distance=distance, grouper={"kind": "bipartite", "protect_first": protected}),
    )
    morphing = Morphing(given, (6, 6))
    grouping = morphing.grouper.group(target, level, torch.Generator())
    fast = loss_of(student, target, grouping, distance=distance)
    plain = matrix_loss(student, target, source_matrix(target, level, protected), distance_of(given))
    torch.testing.assert_close(fast, plain, atol=1e-6, rtol=1e-6)
    gradients = [torch.autograd.grad(each, student)[0] for each in (fast, plain)]
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-7, rtol=1e-5)


def test_distances_are_those_of_their_formulas() -> None:
    u, v = torch.tensor([3.0, 0.0, 4.0, 1.0]), torch.tensor([0.0, 0.5, 4.0, 4.0])
    found = {name: distance_of(spec(distance=name))(u, v).item() for name in DISTANCES}
    assert found["cosine"] == pytest.approx(1 - 20 / (26**0.5 * 32.25**0.5))
    assert found["l1"] == pytest.approx((3 + 0.5 + 0 + 3) / 4)
    assert found["l2"] == pytest.approx((9 + 0.25 + 0 + 9) / 4)
    assert found["smooth_l1"] == pytest.approx((2 + 0.5**2 / 4 + 0 + 2) / 4)  # 3 - 2/2 beyond beta = 2


def test_token_by_token_is_the_negative_cosine_of_tokens() -> None:
    student, target = pair()
    expected = 1 - torch.cosine_similarity(student, target, dim=-1).mean()
    torch.testing.assert_close(loss_of(student, target, Grouping(None, 36)), expected)
    every = Grouping(torch.arange(36).expand(3, 36), 36)
    torch.testing.assert_close(loss_of(student, target, every), expected)


def test_one_group_compares_the_images_means() -> None:
    student, target = pair()
    one = Grouping(torch.zeros(3, 36, dtype=torch.int64), 1)
    expected = 1 - torch.cosine_similarity(student.mean(1), target.mean(1), dim=-1).mean()
    torch.testing.assert_close(loss_of(student, target, one), expected)


def test_sums_in_place_of_means_are_the_same_for_the_cosine_alone() -> None:
    student, target = pair()
    grouping = labelled(target)
    assert grouping.labels is not None
    sums = [group_sums(each, grouping.labels, 11) for each in (student, target)]
    for name in DISTANCES:
        far = distance_of(spec(distance=name))
        means = [group_means(each, grouping) for each in (student, target)]
        assert torch.allclose(far(*sums), far(*means), atol=1e-6) is (name == "cosine")


def test_the_loss_lies_between_equal_and_opposite_tokens() -> None:
    student, target = pair()
    grouping = labelled(target)
    assert loss_of(target, target, grouping).item() == pytest.approx(0, abs=1e-6)
    assert loss_of(-target, target, grouping).item() == pytest.approx(2, abs=1e-6)
    assert 0 < loss_of(student, target, grouping).item() < 2


def test_gradients_reach_the_student_alone_and_all_of_its_tokens() -> None:
    student, target = pair()
    target.requires_grad_()
    morphing = Morphing(spec(schedule={"iterations": [2, 2]}), (6, 6))
    levels = morphing.morph(target, torch.Generator().manual_seed(1))
    morphing.compare(student, levels).loss.backward()
    assert target.grad is None
    assert student.grad is not None
    assert (student.grad.abs().sum(-1) > 0).all()


def test_levels_are_averaged_and_the_mean_number_of_groups_is_reported() -> None:
    student, target = pair()
    morphing = Morphing(spec(), (6, 6))
    parts = [Morphed(grouping, group_means(target, grouping)) for grouping in (labelled(target), Grouping(None, 36))]
    both = morphing.compare(student, parts)
    each = torch.stack([morphing.compare(student, [part]).loss for part in parts])
    torch.testing.assert_close(both.loss, each.mean())
    assert both.metrics["groups"].item() == (11 + 36) / 2


def test_standardised_targets_have_mean_0_and_deviation_1_over_channels() -> None:
    student, target = pair()
    grouping = Grouping(None, 36)
    scaled = (target - target.mean(-1, keepdim=True)) / target.var(-1, correction=0, keepdim=True).sqrt()
    found = loss_of(student, target, grouping, distance="l2", standardise=True)
    torch.testing.assert_close(found, (student - scaled).square().mean(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("distance", DISTANCES)
def test_a_group_without_tokens_and_tokens_of_zeros_stay_finite(distance: str) -> None:
    student, target = torch.zeros(1, 4, 3, requires_grad=True), torch.zeros(1, 4, 3)
    loss = loss_of(student, target, Grouping(torch.tensor([[0, 0, 2, 2]]), 3), distance=distance)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()  # type: ignore[arg-type]


def test_low_precision_is_compared_in_full() -> None:
    student, target = pair()
    grouping = labelled(target)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss_of(student.bfloat16(), target.bfloat16(), grouping)
    assert found.dtype == torch.float32
    expected = loss_of(student.bfloat16().float(), target.bfloat16().float(), grouping)
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=0)
