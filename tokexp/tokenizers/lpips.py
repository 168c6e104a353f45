"""Distance of pictures by the features of a frozen VGG-16 (Zhang et al. 2018, LPIPS, equation 1).

d(x, y) = sum over layers of the mean over places of sum over channels of w_c (x_c - y_c)^2, where a place's features
have length one. Without the published w, every channel counts one.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tokexp.errors import DataError
from tokexp.tokenizers.checkpoints import read_tensors
from tokexp.vgg import VggFeatures

LAYERS: Final = (3, 8, 15, 22, 29)
"""relu1_2, 2_2, 3_3, 4_3 and 5_3 of torchvision's vgg16().features."""

CHANNELS: Final = (64, 128, 256, 512, 512)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1]."""

SMALLEST: Final = 16
"""Side in pixels of the smallest pictures that leave the last layer a place."""


class Lpips(VggFeatures):
    """Compares pictures (B, C, H, W) with pixels in [0, 1], C of 1 or 3, sides from SMALLEST."""

    shift: Tensor
    scale: Tensor

    def __init__(self, vgg: str, linear: str | None) -> None:
        """Take the files of weights. Raises DataError if they are not VGG-16's, or not LPIPS's for it."""
        super().__init__(vgg, "vgg16", LAYERS)
        self.register_buffer("shift", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)
        found = [torch.ones(1, channels, 1, 1) for channels in CHANNELS] if linear is None else _read(linear)
        for number, weights in enumerate(found):
            self.register_buffer(f"weights_{number}", weights, persistent=False)

    def forward(self, found: Tensor, target: Tensor) -> Tensor:
        """Return the distance, the mean over pictures; the gradient goes to `found` alone."""
        with torch.no_grad():
            aims = [normalize(features, dim=1) for features in self.seen(self._scaled(target))]
        total = found.new_zeros(())
        for number, (features, aim) in enumerate(zip(self.seen(self._scaled(found)), aims, strict=True)):
            squares = (normalize(features, dim=1) - aim).square() * getattr(self, f"weights_{number}")
            total = total + squares.sum(1).mean()
        return total

    def _scaled(self, pictures: Tensor) -> Tensor:
        return (pictures.expand(-1, 3, -1, -1) - self.shift) / self.scale


def _read(file: str) -> list[Tensor]:
    try:
        state = read_tensors(file)
        found = [state[f"lin{number}.model.1.weight"].float() for number in range(len(CHANNELS))]
    except (DataError, KeyError) as error:
        raise DataError(
            f"{file}: these are not LPIPS's weights for VGG-16 (lin0.model.1.weight, ...): {error}"
        ) from error
    shapes = [tuple(weights.shape) for weights in found]
    if shapes != [(1, channels, 1, 1) for channels in CHANNELS]:
        raise DataError(f"{file}: LPIPS's weights for VGG-16 have other shapes than {shapes}")
    return found
