"""PVT v2's overlapping patch embedding: one convolution of 2 p - 1 pixels at stride p (Wang et al. 2022)."""

from torch import nn

from tokexp.spec.stems import OverlapStem


def build(spec: OverlapStem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, H // patch_size, W // patch_size), for sides that patches fill."""
    size = spec.patch_size
    return nn.Conv2d(in_channels, width, kernel_size=2 * size - 1, stride=size, padding=size - 1)
