"""Gaussian noise and blur at ImageNet-C's severities, on pixels in [0, 1], before tokenising.

Source: Hendrycks and Dietterich 2019; constants as defined for 224 pixels. Order of steps here: the image is brought
to the experiment's size first, then corrupted, then tokenised.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from tokexp.evaluation.base import PixelChange
from tokexp.spec.evaluation import Corruption

NOISE_STD = (0.08, 0.12, 0.18, 0.26, 0.38)
"""Standard deviation of the noise on [0, 1], severities 1 to 5."""

BLUR_SIGMA = (1.0, 2.0, 3.0, 4.0, 6.0)
"""Sigma of the blur in pixels of a 224 pixel image, severities 1 to 5."""

TRUNCATE = 4.0
"""The blur's kernel reaches this many sigmas to each side (as scipy's gaussian_filter does)."""


class GaussianNoise(PixelChange):
    """Independent normal noise per value, clipped to [0, 1]; each image has its own draw from seed and position."""

    def __init__(self, std: float, seed: int) -> None:
        """Take the deviation on [0, 1] and the seed."""
        self.std, self.seed = std, seed

    def __call__(self, images: Tensor, positions: list[int]) -> Tensor:
        """Return noisy images."""
        draws = [
            torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(self._key(position)))
            for position in positions
        ]
        return (images + self.std * torch.stack(draws).to(images)).clamp(0, 1)

    def _key(self, position: int) -> int:
        # torch takes seeds below 2^64 only; a spec's seed has no upper bound.
        return (self.seed * 1_000_003 + position) % 2**63


class GaussianBlur(PixelChange):
    """Separable blur with border pixels repeated."""

    def __init__(self, sigma: float) -> None:
        """Take sigma in pixels of the images that will be given."""
        self.radius = max(1, round(TRUNCATE * sigma))
        places = torch.arange(-self.radius, self.radius + 1, dtype=torch.float32)
        weights = (-0.5 * (places / sigma).square()).exp()
        self.kernel = weights / weights.sum()

    def __call__(self, images: Tensor, positions: list[int]) -> Tensor:
        """Return blurred images."""
        del positions
        channels, radius = images.shape[1], self.radius
        kernel = self.kernel.to(images)
        padded = pad(images, (radius, radius, radius, radius), mode="replicate")
        rows = conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
        both = conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)
        return both.clamp(0, 1)


def build(spec: Corruption, image_shape: tuple[int, int, int]) -> PixelChange:
    """Return the change for a spec and images of shape (channels, height, width)."""
    if spec.name == "gaussian_noise":
        return GaussianNoise(NOISE_STD[spec.severity - 1], spec.seed)
    scale = math.sqrt(image_shape[1] * image_shape[2]) / 224 if spec.scale_to_image else 1.0
    return GaussianBlur(BLUR_SIGMA[spec.severity - 1] * scale)
