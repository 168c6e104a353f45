"""Overlapping multi-scale windows at half a patch's stride, averaged by four (Qian et al. 2022, MoTo, "locality").

The averaging keeps the number of patches, as the printed cost demands: without it the body would read four times as
many.
"""

from torch import nn

from tokexp.models.stems.multi_scale import MultiScale
from tokexp.spec.stems import LocalStem


def build(spec: LocalStem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, H // patch_size, W // patch_size)."""
    return MultiScale(spec, in_channels, width, pooled=2)
