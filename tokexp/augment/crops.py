"""Random resized crops of whole batches as two sparse products per sample; centre crops.

The box is drawn as in torchvision's RandomResizedCrop (Szegedy et al. 2015; SeiT uses it on the token map). Resizing is
bicubic (a = -0.75, pixel centres at halves, no antialias, no clamping of the result) with the crop's border replicated
inside the crop: exactly what cropping first and then calling a bicubic resize gives, which one warp of the whole map
does not, because that reads beyond the crop.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from tokexp.augment.base import uniform

TRIES = 10
"""Boxes that are tried before the central one is taken."""

CUBIC = -0.75
"""The parameter a of the bicubic kernel."""


@dataclass(frozen=True)
class CropDraw:
    """The random numbers of n boxes, free of any resolution, so that pixels and tokens can share them.

    area: (n, tries) shares of the map's area. ratio: (n, tries) width over height. corner: (n, 2) in [0, 1), rows
    first, where in the room that is left the box lies. bounds: range of the ratio, for the box that is taken when
    no try fits.
    """

    area: Tensor
    ratio: Tensor
    corner: Tensor
    bounds: tuple[float, float]


def draw_crops(
    count: int, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> CropDraw:
    """Draw areas uniformly within `scale`, aspects log-uniformly within `ratio`, and corners."""
    area = uniform((count, TRIES), generator, *scale)
    logs = uniform((count, TRIES), generator, math.log(ratio[0]), math.log(ratio[1]))
    return CropDraw(area, logs.exp(), uniform((count, 2), generator), ratio)


def boxes(draw: CropDraw, height: int, width: int, whole: bool = True) -> Tensor:
    """Return boxes (n, 4) as top, left, height, width in cells of a height x width map.

    The first try that fits is taken, else the largest central box within the aspect bounds. whole: sides and corners
    are whole cells (each legal corner equally likely); otherwise they are real numbers, so that the same draw gives
    the same part of the picture at every resolution of one aspect.
    """
    area = draw.area * (height * width)
    sides = torch.stack([(area / draw.ratio).sqrt(), (area * draw.ratio).sqrt()], dim=-1)
    sides = sides.round() if whole else sides
    limit = sides.new_tensor([height, width])
    fits = ((sides > 0) & (sides <= limit)).all(-1)
    first = fits.int().argmax(1)
    found = fits.any(1)[:, None]
    size = torch.where(found, sides[torch.arange(len(sides), device=sides.device), first], _central(draw, limit, whole))
    room = limit - size
    if whole:
        corner = torch.where(found, torch.minimum((draw.corner * (room + 1)).floor(), room), (room / 2).floor())
    else:
        corner = torch.where(found, draw.corner * room, room / 2)
    return torch.cat([corner, size], dim=1)


def _central(draw: CropDraw, limit: Tensor, whole: bool) -> Tensor:
    height, width = limit.tolist()
    low, high = draw.bounds
    if width / height < low:
        height = width / low
    elif width / height > high:
        width = height * high
    size = limit.new_tensor([height, width])
    return size.round().clamp(min=1) if whole else size


@dataclass(frozen=True)
class Taps:
    """One axis of a resize: output place o of sample n is the sum over k of weight[n, o, k] x cell[n, o, k].

    cell: (n, out, 4) positions within the axis. weight: (n, out, 4).
    """

    cell: Tensor
    weight: Tensor


def crop_taps(
    box: Tensor, size: tuple[int, int], out_size: tuple[int, int], dtype: torch.dtype = torch.float32
) -> tuple[Taps, Taps]:
    """Return the taps of rows and of columns that resize boxes (n, 4) of maps of `size` to `out_size`."""
    box = box.to(dtype)
    rows = _cubic_taps(box[:, 0], box[:, 2], size[0], out_size[0])
    return rows, _cubic_taps(box[:, 1], box[:, 3], size[1], out_size[1])


def _cubic_taps(start: Tensor, length: Tensor, size: int, out: int) -> Taps:
    start, length = start[:, None, None], length[:, None, None]
    steps = torch.arange(out, device=start.device, dtype=start.dtype)[:, None]
    place = start + (steps + 0.5) * (length / out) - 0.5
    near = place.floor() + torch.arange(-1, 3, device=start.device, dtype=start.dtype)
    # The crop's own cells are those whose centre it holds; a crop that holds none has the cell it lies in.
    lowest = (start - 0.5).ceil()
    highest = (start + length - 0.5).ceil() - 1
    inside = (start + length / 2).floor()
    empty = highest < lowest
    lowest, highest = (torch.where(empty, inside, end).clamp(0, size - 1) for end in (lowest, highest))
    return Taps(near.clamp(lowest, highest).long(), _kernel((place - near).abs()))


def _kernel(distance: Tensor) -> Tensor:
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    return torch.where(distance <= 1, near, far)


def resample(values: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Return maps (n, C, H, W) resized to (n, C, out rows, out columns), in the precision of the values.

    The axis that is summed over stands first in the tables, so that a bag's vectors are long and its indices few.
    """
    across = _along(columns, values.permute(0, 3, 2, 1))
    return _along(rows, across.transpose(1, 2)).permute(0, 3, 1, 2)


def _along(taps: Taps, maps: Tensor) -> Tensor:
    """Sum over axis 1 of maps (n, size, other, C) and return (n, out, other, C)."""
    count, size, other, channels = maps.shape
    cells = taps.cell + size * torch.arange(count, device=maps.device)[:, None, None]
    table = maps.reshape(count * size, other * channels)
    found = embedding_bag(cells.view(-1, 4), table, per_sample_weights=taps.weight.view(-1, 4), mode="sum")
    return found.view(count, -1, other, channels)


def resample_tokens(indices: Tensor, codes: Tensor, rows: Taps, columns: Taps) -> Tensor:
    """Return the map of the codes (K, C) of indices (n, H, W), resized to (n, C, out rows, out columns).

    The map itself is never made: the sums over columns read the codebook's rows. Each sum of four is one bag, which is
    several times faster than a product with a matrix that holds four numbers in each row.
    """
    count, height, _ = indices.shape
    cells = indices.gather(2, columns.cell.view(count, 1, -1).expand(-1, height, -1)).view(-1, 4)
    weights = columns.weight[:, None].expand(-1, height, -1, -1).reshape(-1, 4)
    across = embedding_bag(cells, codes, per_sample_weights=weights, mode="sum")
    return _along(rows, across.view(count, height, -1, codes.shape[1])).permute(0, 3, 1, 2)


def random_resized_crop(
    values: Tensor,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    out_size: tuple[int, int],
    generator: torch.Generator,
) -> Tensor:
    """Return (n, C, *out_size): of every sample another random box, resized."""
    height, width = values.shape[-2:]
    box = boxes(draw_crops(len(values), scale, ratio, generator), height, width)
    return resample(values, *crop_taps(box, (height, width), out_size, values.dtype))


def centre_crop(values: Tensor, out_size: tuple[int, int]) -> Tensor:
    """Return the middle (..., *out_size) of maps (..., H, W). Raises ValueError if they are smaller than that."""
    height, width = values.shape[-2:]
    rows, columns = out_size
    if height < rows or width < columns:
        raise ValueError(f"a map of {height} x {width} cannot be cropped to the {rows} x {columns} that are needed")
    top, left = (height - rows) // 2, (width - columns) // 2
    return values[..., top : top + rows, left : left + columns]
