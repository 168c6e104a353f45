"""The grouper layerwise_kmeans against one written token by token, and inside the objective."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from tests.objectives.building import vit_spec
from tokexp.errors import InputError
from tokexp.models.pixel_input import PixelInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.groupers.base import group_sizes
from tokexp.objectives.morphing.loss import morphing_loss
from tokexp.objectives.morphing.schedules import Level
from tokexp.objectives.morphing.term import Morphing
from tokexp.objectives.targets.teacher import EncoderTarget
from tokexp.registry import implementation
from tokexp.spec.morphing import GrouperSpec, MorphingSpec

SIDE = 12
PATCHES = 36


def grouper(**fields: Any) -> Any:
    spec = TypeAdapter(GrouperSpec).validate_python({"kind": "layerwise_kmeans", **fields})
    return implementation("groupers", "layerwise_kmeans")(spec)


def target(depth: int = 3) -> EncoderTarget:
    torch.manual_seed(1)
    spec = vit_spec(depth=depth, input="pixels", stem={"kind": "patchify", "patch_size": 2})
    backbone = build_vit(spec, 3, (SIDE, SIDE))
    for weights in backbone.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return EncoderTarget(backbone, PixelInput("half"))


def images(samples: int = 3) -> Tensor:
    return torch.rand(samples, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def by_hand(encoder: EncoderTarget, image: Tensor, counts: list[int], updates: int, seed: int) -> tuple[Any, Tensor]:
    """Return the patches of every cluster and its token, for one image, one token at a time."""
    generator = torch.Generator().manual_seed(seed)
    tokens = encoder.start(image[None])
    groups = [[place] for place in range(tokens.shape[1] - 1)]
    for block, count in zip(encoder.blocks(), counts, strict=True):
        tokens = block(tokens)
        if count == len(groups):
            continue
        patches = list(tokens[0, 1:])
        first = torch.rand(len(patches), generator=generator).argsort()[:count].tolist()
        centroids = [patches[place] for place in first]
        for _ in range(updates + 1):
            near = [min(range(count), key=lambda c: float((one - centroids[c]).square().sum())) for one in patches]
            for cluster in range(count):
                mine = [place for place, own in enumerate(near) if own == cluster and groups[place]]
                weight = sum(len(groups[place]) for place in mine)
                if weight:
                    centroids[cluster] = sum(patches[place] * (len(groups[place]) / weight) for place in mine)
        groups = [
            sorted(one for place, own in enumerate(near) if own == cluster for one in groups[place])
            for cluster in range(count)
        ]
        tokens = torch.cat([tokens[:, :1], torch.stack(centroids)[None]], dim=1)
    return groups, encoder.finish(tokens[0, 1:])


@pytest.mark.parametrize("updates", [0, 4])
@torch.no_grad()
def test_every_block_is_followed_by_lloyds_updates_on_what_it_gives(updates: int) -> None:
    encoder, given = target(), images()
    made = grouper(removed=0.5, updates=updates)
    grouping, rows = made.encode(encoder, given, torch.Generator().manual_seed(5))
    assert made.counts(PATCHES, 3) == [30, 24, 18]
    assert (grouping.groups, rows.shape) == (18, (3, 18, encoder.width))
    for image, labels, found in zip(given, grouping.labels, rows, strict=True):
        groups, expected = by_hand(encoder, image, [30, 24, 18], updates, 5)
        assert groups == [(labels == number).nonzero()[:, 0].tolist() for number in range(18)]
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_papers_98_of_196_are_reached_in_equal_steps() -> None:
    counts = grouper().counts(196, 12)
    assert counts[-1] == 98
    assert {before - after for before, after in zip([196, *counts], counts, strict=False)} == {8, 9}
    assert grouper(removed=1.0).counts(9, 3) == [6, 3, 1]
    assert grouper(removed=0.0).counts(9, 3) == [9, 9, 9]


def test_without_removal_it_is_the_target_itself() -> None:
    encoder, given = target(), images()
    grouping, rows = grouper(removed=0.0).encode(encoder, given, torch.Generator())
    assert torch.equal(rows, encoder(given))
    assert torch.equal(grouping.labels[0], torch.arange(PATCHES))


def test_equal_patches_leave_empty_clusters_that_weigh_nothing() -> None:
    encoder, given = target(), torch.zeros(2, 3, SIDE, SIDE)
    with torch.no_grad():
        encoder.backbone.positions.zero_()
    grouping, rows = grouper(updates=2).encode(encoder, given, torch.Generator().manual_seed(0))
    assert torch.isfinite(rows).all()
    sizes = group_sizes(grouping.labels, grouping.groups)
    assert (sizes.sum(1) == PATCHES).all()
    assert (sizes == 0).any()
    distance = Morphing(MorphingSpec(), (6, 6))._distance
    student = torch.randn(2, PATCHES, encoder.width, generator=torch.Generator().manual_seed(1))
    moved = rows + 5 * (sizes == 0)[:, :, None]
    losses = [morphing_loss(student, grouping, each, distance) for each in (rows, moved)]
    torch.testing.assert_close(*losses)


def test_it_is_drawn_from_the_generator_alone_and_each_image_by_itself() -> None:
    encoder, given, order = target(), images(), torch.tensor([2, 0, 1])
    first, again, moved = (
        grouper().encode(encoder, each, torch.Generator().manual_seed(7))[0].labels
        for each in (given, given, given[order])
    )
    assert torch.equal(first, again)
    assert torch.equal(first[order], moved)
    other = grouper().encode(encoder, given, torch.Generator().manual_seed(8))[0].labels
    assert not torch.equal(first, other)


def test_an_objective_learns_from_it_and_its_loss_is_that_of_its_rows() -> None:
    encoder, given = target(), images(2)
    morphing = Morphing(MorphingSpec.model_validate({"grouper": {"kind": "layerwise_kmeans"}}), (6, 6))
    student = torch.randn(2, PATCHES, encoder.width, requires_grad=True)
    (morphed,) = morphing.of(encoder, given, torch.Generator().manual_seed(3))
    output = morphing.compare(student, [morphed])
    output.loss.backward()
    assert output.metrics["groups"].item() == 18
    labels = morphed.grouping.labels
    assert labels is not None
    total = torch.zeros(())
    for one, own, rows in zip(student.detach(), labels, morphed.rows, strict=True):
        for number in own.unique():
            mine = one[own == number]
            total += len(mine) * (1 - torch.cosine_similarity(mine.mean(0), rows[number], dim=0))
    torch.testing.assert_close(output.loss.detach(), total / (2 * PATCHES))
    assert student.grad is not None


def test_encoded_tokens_and_targets_without_a_class_token_are_refused() -> None:
    with pytest.raises(TypeError, match="merges while it encodes"):
        grouper().group(torch.zeros(1, 4, 2), Level(4, ()), torch.Generator())
    encoder = target()
    encoder.prefix = 0
    with pytest.raises(InputError, match="one class token"):
        grouper().encode(encoder, images(), torch.Generator())
