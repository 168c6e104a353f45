"""Flip, affine map and crop with drawn numbers that mean the same in pixels and in TokenAdapt's space.

`draw` draws once, `apply` does it to maps of any resolution (SeiT++ sections 3.3 and 4.7: the pairs that TokenAdapt is
trained on need the same geometry in both). Angles are degrees; shifts are shares of the map's width, on both axes.
Signs are torchvision's: a positive rotation is clockwise, a positive shear x moves the upper rows to the right.

The released code resamples the map once for every affine member, whole cells for shifts; that is `resample: each`.
`once` composes the members to one affine map, in the same order, and resamples one time, which blurs less.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from tokexp.augment.base import uniform
from tokexp.augment.crops import CropDraw, boxes, centre_crop, crop_taps, draw_crops, resample
from tokexp.spec.augment import Geometry

RATIO = (3 / 4, 4 / 3)
"""Aspect range of the crop that ends the list."""


@dataclass(frozen=True)
class GeometryDraw:
    """What happens to each of n maps. A member that was not drawn is 0.

    flip: (n,) bool. rotate: (n,) degrees. shift: (n, 2) shares of the width, x and y. shear: (n, 2) degrees, x and y.
    affine: whether any of these can differ from 0. crop: the boxes, None for no crop. each: `resample: each`.
    """

    flip: Tensor
    rotate: Tensor
    shift: Tensor
    shear: Tensor
    affine: bool
    crop: CropDraw | None
    each: bool


def draw(spec: Geometry, count: int, generator: torch.Generator) -> GeometryDraw:
    """Draw for `count` maps; with `scope: per_batch` flip and affine are one draw for all, the crop never is."""
    drawn = 1 if spec.scope == "per_batch" else count
    flip = uniform((drawn,), generator) < spec.hflip
    considered = uniform((drawn, 1), generator) < spec.affine
    taken = considered & (uniform((drawn, 5), generator) < spec.member)
    numbers = uniform((drawn, 5), generator, -1.0, 1.0)
    shear = numbers[:, 3:] if spec.shear_sign == "symmetric" else (numbers[:, 3:] + 1) / 2
    spans = numbers.new_tensor([spec.rotate, spec.translate, spec.translate, spec.shear, spec.shear])
    members = torch.where(taken, torch.cat([numbers[:, :3], shear], dim=1) * spans, 0.0).expand(count, 5)
    return GeometryDraw(
        flip=flip.expand(count),
        rotate=members[:, 0],
        shift=members[:, 1:3],
        shear=members[:, 3:],
        affine=spec.affine > 0 and spec.member > 0,
        crop=None if spec.rrc is None else draw_crops(count, spec.rrc, RATIO, generator),
        each=spec.resample == "each",
    )


def apply(values: Tensor, drawn: GeometryDraw, out_size: tuple[int, int]) -> Tensor:
    """Return maps (n, C, *out_size) of maps (n, C, H, W): flipped, warped (bilinear, zero fill), cropped (bicubic).

    Without a crop the middle is taken. Raises ValueError if that is larger than the maps.
    """
    height, width = values.shape[-2:]
    values = torch.where(drawn.flip[:, None, None, None], values.flip(-1), values)
    if drawn.affine:
        for matrix in _matrices(drawn, width):
            values = _warp(values, matrix)
    if drawn.crop is None:
        return centre_crop(values, out_size)
    box = boxes(drawn.crop, height, width, whole=drawn.each)
    return resample(values, *crop_taps(box, (height, width), out_size, values.dtype))


def _matrices(drawn: GeometryDraw, width: int) -> list[Tensor]:
    """Return the maps (n, 3, 3) to warp by, from where a cell was to where it goes, about the centre, in cells."""
    shift = drawn.shift * width
    shift = shift.round() if drawn.each else shift
    angle, shear = drawn.rotate * (math.pi / 180), (drawn.shear * (math.pi / 180)).tan()
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        [cos, -sin, zero, sin, cos, zero],
        [one, zero, shift[:, 0], zero, one, zero],
        [one, zero, zero, zero, one, shift[:, 1]],
        [one, -shear[:, 0], zero, zero, one, zero],
        [one, zero, zero, -shear[:, 1], one, zero],
    ]
    members = [torch.stack([*row, zero, zero, one], dim=1).view(-1, 3, 3) for row in rows]
    if drawn.each:
        return members
    whole = members[0]
    for member in members[1:]:
        whole = _times(member, whole)
    return [whole]


def _times(left: Tensor, right: Tensor) -> Tensor:
    """Multiply small matrices in full precision (a matmul could be run in TF32 or under autocast)."""
    return (left[:, :, :, None] * right[:, None, :, :]).sum(2)


def _warp(values: Tensor, matrix: Tensor) -> Tensor:
    height, width = values.shape[-2:]
    x = torch.arange(width, device=values.device, dtype=matrix.dtype) - (width - 1) / 2
    y = (torch.arange(height, device=values.device, dtype=matrix.dtype) - (height - 1) / 2)[:, None]
    (xx, xy, dx), (yx, yy, dy) = (matrix[:, row].T[:, :, None, None] for row in (0, 1))
    # Where each cell comes from (the map's inverse), in grid_sample's units, whose -1 and 1 are the outer borders.
    area = xx * yy - xy * yx
    from_x = (yy * (x - dx) - xy * (y - dy)) / area
    from_y = (xx * (y - dy) - yx * (x - dx)) / area
    grid = torch.stack([from_x * (2 / width), from_y * (2 / height)], dim=-1)
    with torch.autocast(values.device.type, enabled=False):
        warped = grid_sample(values, grid.to(values.dtype), mode="bilinear", padding_mode="zeros", align_corners=False)
    same = (matrix == torch.eye(3, device=matrix.device, dtype=matrix.dtype)).all(2).all(1)
    return torch.where(same[:, None, None, None], values, warped)
