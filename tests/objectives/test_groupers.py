"""Groupings against others written from their description: matchings token by token, k-means image by image."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from tokexp.errors import InputError
from tokexp.objectives.groupers.base import Grouping, group_sizes, group_sums, sums_by_index, sums_by_product
from tokexp.objectives.groupers.bipartite import merge
from tokexp.objectives.groupers.kmeans import nearest
from tokexp.objectives.morphing.matrices import source_matrix
from tokexp.objectives.morphing.schedules import Level
from tokexp.registry import implementation
from tokexp.spec.morphing import GrouperSpec, asked_steps, made_steps

SCHEDULES = [(14,) * 7, (1,) * 14, (196,), (15,) * 13, (98, 98), (3, 0, 40, 1, 60)]


def grouper(kind: str, **fields: Any) -> Any:
    return implementation("groupers", kind)(TypeAdapter(GrouperSpec).validate_python({"kind": kind, **fields}))


def tokens(samples: int = 3, count: int = 196, width: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(samples, count, width, generator=torch.Generator().manual_seed(seed))


def level(count: int, steps: tuple[int, ...], protected: bool = False) -> Level:
    return Level(count, made_steps(count, steps, protected))


def group(kind: str, values: Tensor, asked: Level, seed: int = 0, **fields: Any) -> Grouping:
    found: Grouping = grouper(kind, **fields).group(values, asked, torch.Generator().manual_seed(seed))
    return found


def by_hand(image: Tensor, steps: tuple[int, ...], protected: bool) -> list[list[int]]:
    """Return the members of every group: lists of tokens, merged pair by pair, compared by the means of members."""
    groups = [[place] for place in range(len(image))]
    for count in steps:
        means = [image[members].double().mean(0) for members in groups]
        pairs = []
        for a in range(0, len(groups), 2):
            scores = [torch.cosine_similarity(means[a], means[b], dim=0).item() for b in range(1, len(groups), 2)]
            best = max(range(len(scores)), key=scores.__getitem__)
            pairs.append((-1e9 if protected and a == 0 else scores[best], a, 1 + 2 * best))
        ranked = sorted(pairs, reverse=True)
        into = {b: list(groups[b]) for b in range(1, len(groups), 2)}
        for _, a, b in ranked[:count]:
            into[b] += groups[a]
        alone = [a for _, a, _ in ranked[count:]]
        groups = [groups[a] for a in (sorted(alone) if protected else alone)] + [into[b] for b in sorted(into)]
    return groups


def members(labels: Tensor, groups: int) -> list[list[int]]:
    return [(labels == number).nonzero()[:, 0].tolist() for number in range(groups)]


def test_the_worked_case_of_two_steps() -> None:
    directions = torch.tensor([0.0, 12, 88, 200, 192, 85]).deg2rad()  # 0 -> 1, 2 -> 5, 4 -> 3; best 2, then 4, then 0
    image = torch.stack([directions.cos(), directions.sin()], dim=1)[None]
    first = group("bipartite", image, Level(6, (2,)))
    assert first.labels is not None
    assert first.labels.tolist() == [[0, 1, 3, 2, 2, 3]]
    # Groups 0 and {3, 4} are even now; {3, 4} is nearer to {2, 5} than 0 to 1 only if that is made so.
    image[0, 1] = torch.tensor([-1.0, -0.2])
    new, _ = merge(
        torch.stack([image[0, 0], image[0, 1], image[0, 3] + image[0, 4], image[0, 3] * 2.0])[None], 1, False
    )
    assert new.tolist() == [[0, 1, 2, 2]]


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("steps", [(6,), (4, 4, 4), (1,) * 9, (12, 6, 3), (5, 2, 7)])
def test_matchings_are_those_made_pair_by_pair(steps: tuple[int, ...], protected: bool) -> None:
    values = tokens(count=25)
    wanted = level(25, steps, protected)
    found = group("bipartite", values, wanted, protect_first=protected)
    assert found.labels is not None
    for image, labels in zip(values, found.labels, strict=True):
        expected = [sorted(each) for each in by_hand(image, wanted.steps, protected)]
        assert members(labels, found.groups) == expected


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("steps", SCHEDULES)
def test_labels_equal_the_product_of_source_matrices(steps: tuple[int, ...], protected: bool) -> None:
    values, wanted = tokens(samples=2), level(196, steps, protected)
    found = group("bipartite", values, wanted, protect_first=protected)
    assert found.labels is not None
    source = source_matrix(values, wanted, protected)
    assert source.shape == (2, found.groups, 196)
    assert torch.equal(source, torch.nn.functional.one_hot(found.labels, found.groups).mT.float())


@pytest.mark.parametrize("protected", [False, True])
@pytest.mark.parametrize("steps", SCHEDULES)
def test_all_labels_are_used_and_sizes_add_up(steps: tuple[int, ...], protected: bool) -> None:
    wanted = level(196, steps, protected)
    found = group("bipartite", tokens(samples=2), wanted, protect_first=protected)
    assert found.labels is not None
    assert found.groups == wanted.groups
    sizes = group_sizes(found.labels, found.groups)
    assert sizes.min() >= 1
    assert (sizes.sum(1) == 196).all()
    if protected:
        assert (found.labels[:, 0] == 0).all()
        assert (sizes[:, 0] == 1).all()


def test_sums_that_are_carried_are_the_sums_of_the_members() -> None:
    values = tokens(count=40)
    sums, labels = values, torch.arange(40).expand(3, 40)
    for count in (9, 9, 5):
        new, sums = merge(sums, count, protect_first=False)
        labels = new.gather(1, labels)
    torch.testing.assert_close(sums, group_sums(values, labels, sums.shape[1]))


def test_sums_by_index_and_by_product_agree_with_their_gradients() -> None:
    labels = torch.randint(7, (3, 40), generator=torch.Generator().manual_seed(2))
    found = []
    for add in (sums_by_index, sums_by_product):
        values = tokens(count=40).requires_grad_()
        sums = add(values, labels, 9)
        sums.square().sum().backward()
        found += [sums.detach(), values.grad]
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1], found[3])
    assert not found[0][:, 7:].any()


def test_lengths_of_tokens_count_after_the_first_step_only() -> None:
    values = tokens()
    scaled = values * torch.rand(3, 196, 1, generator=torch.Generator().manual_seed(3)).add(0.1)
    once, twice = level(196, (60,)), level(196, (60, 40))
    for wanted, same in ((once, True), (twice, False)):
        found = [group("bipartite", each, wanted).labels for each in (values, scaled)]
        assert torch.equal(found[0], found[1]) is same  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["bipartite", "kmeans", "downsample", "whole"])
def test_images_are_grouped_each_by_itself(kind: str) -> None:
    values, wanted, order = tokens(), level(196, (30, 30)), torch.tensor([2, 0, 1])
    made = grouper(kind)
    made.check((14, 14))
    plain, moved = (made.group(each, wanted, torch.Generator().manual_seed(0)) for each in (values, values[order]))
    assert torch.equal(plain.labels[order], moved.labels)


def test_half_precision_is_matched_as_its_values_are_in_full() -> None:
    low, wanted = tokens().half(), level(196, (14,) * 7)
    with torch.autocast("cpu", torch.bfloat16):
        found = group("bipartite", low, wanted).labels
    assert torch.equal(found, group("bipartite", low.float(), wanted).labels)  # type: ignore[arg-type]


def test_equal_and_empty_tokens_stay_finite() -> None:
    values = torch.ones(2, 16, 4)
    values[1] = 0
    found = group("bipartite", values, level(16, (4, 3)))
    assert found.labels is not None
    assert found.groups == 9
    assert (group_sizes(found.labels, 9) >= 1).all()


def lloyd(image: Tensor, centroids: Tensor, updates: int) -> Tensor:
    """Return labels after that many updates, one point and one centroid at a time."""

    def assign() -> list[int]:
        return [min(range(len(centroids)), key=lambda c: (image[i] - centroids[c]).square().sum().item())
                for i in range(len(image))]  # fmt: skip

    centroids = centroids.clone()
    for _ in range(updates):
        labels = assign()
        for number in range(len(centroids)):
            mine = [i for i, label in enumerate(labels) if label == number]
            if mine:
                centroids[number] = image[mine].mean(0)
    return torch.tensor(assign())


def test_kmeans_is_lloyds_from_tokens_at_shared_places() -> None:
    values = tokens(count=30, width=3)
    found = group("kmeans", values, Level(30, (8, 8, 7)), seed=4)
    first = torch.rand(30, generator=torch.Generator().manual_seed(4)).argsort()[:7]
    assert found.groups == 7
    for image, labels in zip(values, found.labels, strict=True):  # type: ignore[arg-type]
        assert torch.equal(labels, lloyd(image, image[first], 3))


def test_an_empty_cluster_keeps_its_centroid() -> None:
    values = torch.zeros(1, 6, 2)
    values[0, 3:] = 1
    found = group("kmeans", values, Level(6, (2, 1)))
    assert found.labels is not None
    assert found.groups == 3
    assert set(found.labels.flatten().tolist()) < {0, 1, 2}
    assert nearest(values, values[:, :2]).tolist() == [[0] * 6]


def test_downsampling_makes_squares() -> None:
    made = grouper("downsample")
    made.check((14, 14))
    found = made.group(tokens(), Level(196, ()), torch.Generator())
    assert found.groups == 49
    assert (group_sizes(found.labels, 49) == 4).all()
    picture = found.labels[0].view(14, 14)
    assert torch.equal(picture[:2, :4], torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1]]))
    assert torch.equal(picture[2:4, 12:], torch.full((2, 2), 13))
    with pytest.raises(InputError, match="do not tile 14 x 13"):
        made.check((14, 13))


def test_the_whole_image_and_no_grouping() -> None:
    whole = group("whole", tokens(), Level(196, ()))
    assert whole.groups == 1
    assert not whole.labels.any()  # type: ignore[union-attr]
    assert group("ungrouped", tokens(), Level(196, ())) == Grouping(None, 196)


def test_asked_steps_are_made_where_the_schedule_is_balanced() -> None:
    for removed in (0, 7, 13, 20):
        asked = asked_steps(25, removed, 4, "balanced")
        assert group("bipartite", tokens(count=25), Level(25, asked)).groups == 25 - removed
