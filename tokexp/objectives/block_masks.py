"""Block-wise masks, drawn for a whole micro-batch at once on its device (Bao et al. 2022, algorithm 1, as released).

Until `count` patches are masked, up to ten blocks are tried: area U(smallest, what is left or the largest), aspect
log-uniform, sides rounded, both below the grid's, corner uniform over all places where the block fits. The first that
masks at least one new patch and not more than are left is taken; ten failures end it. All ten of a round depend on the
same state, so they are drawn together; a round's cost does not depend on the data, and nothing waits for the device.
Once less than `smallest` is left the area is drawn between the two all the same, as in the release.
"""

import math

import torch
from torch import Tensor

from tokexp.spec.masked import BlockSpec

TRIES = 10
"""Blocks that are tried before a sample is left as it is."""

ROUNDS = 32
"""Most blocks of a sample. At 75 of 14 x 14 fewer than one sample in 100,000 needs more than 20."""


def block_order(
    spec: BlockSpec, count: int, samples: int, grid: tuple[int, int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the patches (B, N) of every sample, int64, masked ones first, and how many of them there are (B,).

    Order is random otherwise, so the first `count` are the repaired mask of BEiT v2: random patches are added.
    """
    masked = draw_blocks(spec, count, samples, grid, generator).flatten(1)
    noise = torch.rand(masked.shape, generator=generator, device=generator.device)
    return (noise + (~masked).float()).argsort(dim=1), masked.sum(1)


def draw_blocks(spec: BlockSpec, count: int, samples: int, grid: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Return (B, rows, columns) bool: the patches that blocks mask, at most `count` of each sample."""
    masked = torch.zeros(samples, *grid, dtype=torch.bool, device=generator.device)
    going = torch.ones(samples, dtype=torch.bool, device=generator.device)
    for _ in range(ROUNDS):
        left = count - masked.sum((1, 2))
        block, found = _block(spec, left if spec.largest is None else left.clamp(max=spec.largest), masked, generator)
        going = going & found & (left > 0)
        masked = masked | (block & going[:, None, None])
        # Asking another device would stall it; there all rounds are run.
        if masked.device.type == "cpu" and not going.any():
            break
    return masked


def _block(spec: BlockSpec, limit: Tensor, masked: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the first acceptable block (B, rows, columns) of TRIES, and whether there was one (B,)."""
    samples, rows, columns = masked.shape
    draws = torch.rand(4, samples, TRIES, generator=generator, device=masked.device, dtype=torch.float64)
    area = spec.smallest + draws[0] * (limit[:, None] - spec.smallest)
    aspect = torch.exp(math.log(spec.aspect) * (1 - 2 * draws[1]))
    height = (area * aspect).clamp_min(0).sqrt().round().long()
    width = (area / aspect).clamp_min(0).sqrt().round().long()
    fits = (height < rows) & (width < columns)
    height, width = height.clamp(max=rows - 1), width.clamp(max=columns - 1)
    top = (draws[2] * (rows - height + 1)).long()
    left = (draws[3] * (columns - width + 1)).long()
    new = height * width - _inside(masked, top, left, height, width)
    good = fits & (new > 0) & (new <= limit[:, None])
    first = good & (good.cumsum(1) == 1)
    # Of a sample without a good one, the sides are 0 and nothing is inside.
    top, left, height, width = ((part * first).sum(1)[:, None] for part in (top, left, height, width))
    down, across = torch.arange(rows, device=masked.device), torch.arange(columns, device=masked.device)
    in_rows, in_columns = (down >= top) & (down < top + height), (across >= left) & (across < left + width)
    return in_rows[:, :, None] & in_columns[:, None, :], good.any(1)


def _inside(masked: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Return how many masked patches (B, tries) lie inside each block, from sums over all upper left corners."""
    samples, rows, columns = masked.shape
    sums = torch.zeros(samples, rows + 1, columns + 1, dtype=torch.int64, device=masked.device)
    sums[:, 1:, 1:] = masked.long().cumsum(1).cumsum(2)
    flat = sums.flatten(1)

    def at(row: Tensor, column: Tensor) -> Tensor:
        return flat.gather(1, row * (columns + 1) + column)

    bottom, right = top + height, left + width
    return at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
