"""Which training images are held out, and how a model is measured on them."""

import math

import pytest
import torch
from torch import Tensor

from tokexp.data.base import Batch
from tokexp.tasks.held_out import held_out, measure


def test_held_out_images_are_a_share_of_every_class_and_follow_the_seed() -> None:
    labels = torch.arange(240) % 3
    held = held_out(labels, 0.25, 1)
    assert [int(held[labels == label].sum()) for label in range(3)] == [20, 20, 20]
    assert torch.equal(held, held_out(labels, 0.25, 1))
    assert not torch.equal(held, held_out(labels, 0.25, 2))


def test_a_share_below_one_image_of_each_class_still_holds_one_out() -> None:
    assert int(held_out(torch.arange(12) % 4, 0.1, 0).sum()) == 1


def test_classes_of_different_sizes_give_in_proportion() -> None:
    labels = torch.tensor([0] * 100 + [1] * 10 + [2] * 2)
    held = held_out(labels, 0.1, 0)
    assert [int(held[labels == label].sum()) for label in range(3)] == [10, 1, 0]


def test_measures_are_over_images_not_over_batches() -> None:
    scores = torch.tensor([[4.0, 0.0], [0.0, 4.0], [0.0, 4.0]])
    labels = torch.tensor([0, 0, 1])
    parts = (Batch(labels[s], 2, values=scores[s][:, :, None, None]) for s in (slice(0, 1), slice(1, 3)))

    def logits(values: Tensor) -> Tensor:
        return values.flatten(1)

    found = measure(logits, parts)
    right, wrong = math.log1p(math.exp(-4)), math.log1p(math.exp(4))
    assert found["val_top1"] == pytest.approx(2 / 3)
    assert found["val_loss"] == pytest.approx((2 * right + wrong) / 3, rel=1e-5)
