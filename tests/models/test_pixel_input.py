import pytest
import torch

from tokexp.models.pixel_input import PixelInput


def test_pixels_are_normalised_per_channel() -> None:
    images = torch.rand(2, 3, 4, 4)
    found = PixelInput("imagenet")(images)
    for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        torch.testing.assert_close(found[:, channel], (images[:, channel] - mean) / std)


@pytest.mark.parametrize(("name", "expected"), [("half", (-1.0, 1.0)), ("none", (0.0, 1.0))])
def test_one_value_serves_all_channels(name: str, expected: tuple[float, float]) -> None:
    images = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    found = PixelInput(name)(images)
    assert (float(found.min()), float(found.max())) == expected


def test_nothing_of_it_is_saved_or_trained() -> None:
    assert not PixelInput("half").state_dict()
    assert not list(PixelInput("half").parameters())
