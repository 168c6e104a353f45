"""Multi-scale patches: convolutions of 4, 8 and 16 pixels at stride 16 (Qian et al. 2022, MoTo, "intra-token")."""

from torch import nn

from tokexp.models.stems.multi_scale import MultiScale
from tokexp.spec.stems import IntraStem


def build(spec: IntraStem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, H // patch_size, W // patch_size)."""
    return MultiScale(spec, in_channels, width)
