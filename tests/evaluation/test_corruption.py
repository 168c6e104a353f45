import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tokexp.evaluation.base import accuracies, top_k
from tokexp.evaluation.corruption import BLUR_SIGMA, NOISE_STD, build
from tokexp.spec.evaluation import Corruption


def spec(**values: object) -> Corruption:
    return Corruption.model_validate({"kind": "corruption", **values})


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_noise_has_the_published_deviation(severity: int) -> None:
    change = build(spec(name="gaussian_noise", severity=severity), (1, 64, 64))
    images = torch.full((8, 1, 64, 64), 0.5)
    std = NOISE_STD[severity - 1]
    free = torch.randn(10**6) * std + 0.5
    assert change(images, list(range(8))).std() == pytest.approx(float(free.clamp(0, 1).std()), rel=0.02)


def test_severities_are_those_of_imagenet_c() -> None:
    assert NOISE_STD == (0.08, 0.12, 0.18, 0.26, 0.38)
    assert BLUR_SIGMA == (1, 2, 3, 4, 6)


def test_any_seed_that_a_spec_takes_gives_noise() -> None:
    images = torch.full((1, 1, 4, 4), 0.5)
    first, second = (build(spec(name="gaussian_noise", seed=seed), (1, 4, 4))(images, [0]) for seed in (1, 2**70))
    assert not torch.equal(first, second)


def test_an_images_noise_does_not_depend_on_its_neighbours() -> None:
    change = build(spec(name="gaussian_noise"), (1, 8, 8))
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    together = change(images, [10, 11, 12, 13, 14, 15])
    assert torch.equal(together[3:5], change(images[3:5], [13, 14]))
    assert not torch.equal(together[0], together[1])


def test_blur_equals_scipys_filter() -> None:
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    change = build(spec(name="gaussian_blur", severity=2, scale_to_image=False), (3, 32, 32))
    expected = np.stack(
        [
            [
                gaussian_filter(channel.astype(np.float64), BLUR_SIGMA[1], mode="nearest", truncate=4.0)
                for channel in image
            ]
            for image in images.numpy()
        ]
    )
    np.testing.assert_allclose(change(images, [0, 1]).numpy(), expected, atol=1e-5)


def test_blur_is_scaled_to_small_images_and_keeps_flat_ones() -> None:
    weak = build(spec(name="gaussian_blur", severity=3), (1, 32, 32))
    strong = build(spec(name="gaussian_blur", severity=3, scale_to_image=False), (1, 32, 32))
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert weak(images, [0, 1]).var() > strong(images, [0, 1]).var()
    flat = torch.full((1, 1, 32, 32), 0.3)
    torch.testing.assert_close(strong(flat, [0]), flat)


def test_accuracies_of_a_case_counted_by_hand() -> None:
    logits = torch.tensor([[3.0, 2, 1], [1, 2, 3], [2, 3, 1], [2, 3, 1]])
    best, chances = top_k(logits, 2)
    found = accuracies(best, torch.tensor([0, 2, 0, 1]))
    assert found == pytest.approx({"top1": 0.75, "top5": 1.0, "mean_class_top1": (0.5 + 1 + 1) / 3})
    assert chances[0, 0] == pytest.approx(float(torch.softmax(logits[0], 0)[0]))
