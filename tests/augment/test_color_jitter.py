"""color_jitter against torchvision's functions, and what moves with a flip."""

import itertools

import pytest
import torch

from tokexp.augment.base import AugmentContext
from tokexp.augment.color_jitter import jitter
from tokexp.augment.policy import Policy
from tokexp.data.base import Batch, join
from tokexp.spec.augment import AugmentSpec
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from torchvision.transforms.v2 import functional  # noqa: E402 (after the two missing operators are registered)

CHANGES = (functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation)


def policy(*steps: dict[str, object]) -> Policy:
    return Policy(AugmentSpec.model_validate({"pretrain": list(steps)}).pretrain, AugmentContext((6, 6)))


def pixels(count: int = 8, channels: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(count, channels, 6, 6, generator=generator)
    beside = torch.randint(9, (count, 3, 3), generator=generator)
    return Batch(torch.arange(count) % 4, 4, values=values, target_indices=beside)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_order_of_the_three_changes_is_torchvisions(channels: int) -> None:
    orders = list(itertools.permutations(range(3)))
    values = pixels(len(orders), channels).values
    assert values is not None
    factors = torch.linspace(0.6, 1.4, len(orders) * 3).view(-1, 3)
    found = jitter(values, factors, torch.tensor(orders))
    for number, order in enumerate(orders):
        image = values[number]
        for change in order:
            if channels == 3 or change != 2:
                image = CHANGES[change](image, float(factors[number, change]))
        torch.testing.assert_close(found[number], image, atol=1e-5, rtol=1e-5)


def test_no_strength_changes_nothing_and_some_changes_each_image_in_its_own_way() -> None:
    batch, draws = pixels(), torch.Generator().manual_seed(1)
    assert batch.values is not None
    torch.testing.assert_close(policy({"kind": "color_jitter", "strength": 0.0})(batch, draws).values, batch.values)
    alike = Batch(batch.labels, 4, values=batch.values[:1].expand(8, -1, -1, -1))
    found = policy({"kind": "color_jitter"})(alike, draws).values
    assert found is not None
    assert len({float(image.mean()) for image in found}) == 8


def test_tokens_to_be_predicted_are_mirrored_with_their_pixels_and_nothing_else_touches_them() -> None:
    batch, draws = pixels(), torch.Generator().manual_seed(1)
    steps = [{"kind": "pixel_flip"}, {"one_of": [{"kind": "pixel_flip"}, {"kind": "color_jitter"}], "per": "sample"}]
    found = policy({"halves": [steps, [{"kind": "pixel_flip", "prob": 1.0}]]})(batch, draws)
    assert found.target_indices is not None
    assert batch.target_indices is not None
    mirrored = (found.target_indices != batch.target_indices).flatten(1).any(1)
    expected = torch.where(mirrored[:, None, None], batch.target_indices.flip(-1), batch.target_indices)
    assert torch.equal(found.target_indices, expected)
    assert mirrored[4:].all()
    assert found.values is not None
    assert batch.values is not None
    assert torch.equal(found.values[4:], batch.values[4:].flip(-1))


def test_batches_of_which_some_lack_tokens_join_without() -> None:
    one, other = pixels(2), pixels(2)
    assert join([one, other]).target_indices is not None
    assert join([one, Batch(other.labels, 4, values=other.values)]).target_indices is None
