"""A random projection of patches that is never trained (MoCo v3, Chen et al. 2021, section 4.3)."""

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from tokexp.spec.stems import FrozenStem


class FrozenProjection(nn.Module):
    """The convolution of `patchify` as buffers: outside of the optimizer, its decay, and the gradient.

    First and last weights: uniform with Xavier's bound, bias 0, as MoCo v3 starts them.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, in_channels: int, width: int, patch_size: int) -> None:
        """Take the sizes; weights come from the global generator."""
        super().__init__()
        self.patch_size = patch_size
        bound = sqrt(6 / (in_channels * patch_size**2 + width))
        self.register_buffer("weight", torch.empty(width, in_channels, patch_size, patch_size).uniform_(-bound, bound))
        self.register_buffer("bias", torch.zeros(width))

    def forward(self, values: Tensor) -> Tensor:
        """Return patches (B, width, rows, columns)."""
        return conv2d(values, self.weight, self.bias, stride=self.patch_size)


def build(spec: FrozenStem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, H // patch_size, W // patch_size) with nothing to train."""
    return FrozenProjection(in_channels, width, spec.patch_size)
