"""Brightness and two colour differences of pixels, in whole numbers as a JPEG encoder has them, and back.

Sources: ITU-T T.871 (2011, JFIF), section 6: the full range of 8 bits; the rounding, in sixteenths of a bit, and the
mean of four with alternating ties are those of libjpeg (Independent JPEG Group).
"""

import torch
from torch import Tensor

_BITS = 16
_HALF = 1 << (_BITS - 1)
_MIDDLE = 128


def to_ycbcr(images: Tensor, colour: bool) -> Tensor:
    """Return whole numbers (n, 1 or 3, H, W) int64 from 0 to 255 of images (n, C, H, W) in [0, 1].

    Images of one channel are brightness already. Without `colour` only brightness is returned.
    """
    pixels = (images * 255).round().long().clamp(0, 255)
    if images.shape[1] == 1:
        return pixels
    red, green, blue = pixels.unbind(1)
    planes = [_fixed(red, green, blue, (0.299, 0.587, 0.114), _HALF)]
    if colour:
        above = (_MIDDLE << _BITS) + _HALF - 1  # so that 255.5 does not become 256
        planes.append(_fixed(red, green, blue, (-0.168735892, -0.331264108, 0.5), above))
        planes.append(_fixed(red, green, blue, (0.5, -0.418687589, -0.081312411), above))
    return torch.stack(planes, dim=1)


def _fixed(red: Tensor, green: Tensor, blue: Tensor, weights: tuple[float, float, float], above: int) -> Tensor:
    shares = [round(weight * (1 << _BITS)) for weight in weights]
    return (red * shares[0] + green * shares[1] + blue * shares[2] + above) >> _BITS


def halved(planes: Tensor) -> Tensor:
    """Return whole numbers (n, planes, H / 2, W / 2): means of four; ties go down in even columns, up in odd ones."""
    rows = planes[..., ::2, :] + planes[..., 1::2, :]
    sums = rows[..., ::2] + rows[..., 1::2]
    bias = 1 + torch.arange(sums.shape[-1], device=planes.device) % 2
    return (sums + bias) >> 2


def to_rgb(planes: Tensor, channels: int) -> Tensor:
    """Return pixels (n, channels, H, W), not rounded, of brightness alone or of three planes, 0 to 255 each."""
    luma = planes[:, 0]
    if planes.shape[1] == 1:
        return luma[:, None].expand(-1, channels, -1, -1)
    blue, red = planes[:, 1] - _MIDDLE, planes[:, 2] - _MIDDLE
    green = luma - 0.344136286 * blue - 0.714136286 * red
    return torch.stack([luma + 1.402 * red, green, luma + 1.772 * blue], dim=1)
