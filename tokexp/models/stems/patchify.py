"""ViT's own stem: one convolution over square patches that do not overlap (Dosovitskiy et al. 2021)."""

from torch import nn

from tokexp.spec.stems import PatchifyStem


def build(spec: PatchifyStem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, H // patch_size, W // patch_size); a remainder is left out."""
    return nn.Conv2d(in_channels, width, kernel_size=spec.patch_size, stride=spec.patch_size)
