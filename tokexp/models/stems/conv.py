"""The convolutional stem of Xiao et al. 2021 (ViT_C), which MoTo's table 11 compares with.

3 x 3 convolutions of stride 2, each with batch norm and ReLU, and a 1 x 1 convolution to the model's width. Its source
leaves out one transformer block beside it, to keep the cost: set model.depth to 11 for that.
"""

from torch import nn

from tokexp.spec.stems import ConvStem


def build(spec: ConvStem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, H // patch_size, W // patch_size)."""
    steps = spec.patch_size.bit_length() - 1
    widths = spec.widths or tuple(max(1, width >> (steps - 1 - step)) for step in range(steps))
    batch, layers = spec.norm == "batch", list[nn.Module]()
    for before, after in zip((in_channels, *widths), widths, strict=False):
        layers.append(nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1, bias=not batch))
        layers += [nn.BatchNorm2d(after)] if batch else []
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], width, kernel_size=1))
