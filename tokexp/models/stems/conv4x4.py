"""SeiT's Stem-Adapter: one 4 x 4 convolution with stride 2 and padding 1 (Park et al. 2023, appendix B.5).

Neighbouring patches overlap, so a masked token would be seen through them: never for masked objectives.
"""

from torch import nn

from tokexp.spec.stems import Conv4x4Stem


def build(spec: Conv4x4Stem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, H // 2, W // 2), with torch's own first weights."""
    return nn.Conv2d(in_channels, width, kernel_size=4, stride=spec.stride, padding=1)
