"""MoTo inside a stem: before it, on pixels, or after it, on patches (Qian et al. 2022; the slot is not printed).

Placement `pixel` is what the printed increments speak for: they do not grow with the model's width, and 16 channels at
all pixels cost the printed 0.2 GFLOPs. It works before any stem at any resolution. The mathematics is in `modulation`.
"""

from torch import Tensor, nn

from tokexp.models.modulation import build_modulation
from tokexp.registry import implementation
from tokexp.spec.stems import MotoStem


class PixelModulation(nn.Module):
    """x (B, C, H, W) to x + conv(MoTo(conv(x))), of the same shape; both convolutions 3 x 3."""

    def __init__(self, spec: MotoStem, in_channels: int) -> None:
        """Take the partition, the channels between the convolutions, and the input's."""
        super().__init__()
        self.widen = nn.Conv2d(in_channels, spec.channels, kernel_size=3, padding=1)
        self.modulation = build_modulation(spec, spec.channels, spec.semantic_kernel)
        self.narrow = nn.Conv2d(spec.channels, in_channels, kernel_size=3, padding=1)

    def forward(self, values: Tensor) -> Tensor:
        """Return the modulated picture."""
        modulated: Tensor = self.narrow(self.modulation(self.widen(values)))
        return values + modulated


def build(spec: MotoStem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, rows, columns) as the inner stem has them."""
    inner: nn.Module = implementation("stems", spec.inner.kind)(spec.inner, in_channels, width)
    if spec.placement == "pixel":
        return nn.Sequential(PixelModulation(spec, in_channels), inner)
    return nn.Sequential(inner, build_modulation(spec, width, spec.semantic_kernel))
