"""A 2 x 2 convolution: with stride 2 the stem of SeiT++'s MTM, with stride 1 SeiT's for 16 pixels a token (B.5).

Stride 2 gives patches that do not overlap, as masked objectives need. Stride 1 has no padding and overlaps.
"""

from torch import nn

from tokexp.spec.stems import Conv2x2Stem


def build(spec: Conv2x2Stem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, H // 2, W // 2), or (B, width, H - 1, W - 1) with stride 1.

    The first weights are torch's own: the release's Xavier start of this layer is overwritten by them.
    """
    return nn.Conv2d(in_channels, width, kernel_size=2, stride=spec.stride)
