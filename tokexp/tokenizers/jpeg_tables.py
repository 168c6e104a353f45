"""The constants of JPEG: quantisation tables, their scaling by quality, the zig-zag order, the cosine basis.

Sources: ITU-T T.81 (1992), tables K.1 and K.2, figure 5 and section A.3.3; the rule of quality is libjpeg's
(Independent JPEG Group): tables as they are at 50, finer above, coarser below.
"""

import math

import torch
from torch import Tensor

SIDE = 8
"""Side of JPEG's own blocks."""

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), (99, 99, 99, 99, 99, 99, 99, 99), (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99), (99, 99, 99, 99, 99, 99, 99, 99),
)  # fmt: skip


def steps(quality: int, block: int = SIDE, chroma: bool = False) -> Tensor:
    """Return the steps (block, block) of the quantiser, whole numbers from 1 to 255 as float64.

    quality: 1 to 100. Rows are vertical frequencies. For another side than 8 the table is read, between its entries in
    a straight line, at the frequency in cycles per pixel that a coefficient has; the basis being orthonormal, a step
    means the same error per pixel at every side.
    """
    table = _at_frequencies(torch.tensor(_CHROMA if chroma else _LUMA, dtype=torch.float64), block)
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((table.round() * factor + 50) / 100).floor().clamp(1, 255)


def _at_frequencies(table: Tensor, block: int) -> Tensor:
    place = (torch.arange(block, dtype=torch.float64) * SIDE / block).clamp(max=SIDE - 1)
    low = place.floor().long().clamp(max=SIDE - 2)
    share = place - low
    rows = torch.lerp(table[low], table[low + 1], share[:, None])
    return torch.lerp(rows[:, low], rows[:, low + 1], share)


def zigzag(block: int = SIDE) -> Tensor:
    """Return the positions (block x block,) int64 of a block's coefficients, row by row, in zig-zag order."""
    places = [(row, column) for row in range(block) for column in range(block)]
    # Diagonals take turns in direction: odd ones go down, even ones up.
    places.sort(key=lambda place: (sum(place), place[0] if sum(place) % 2 else place[1]))
    return torch.tensor([row * block + column for row, column in places])


def cosines(block: int = SIDE) -> Tensor:
    """Return the orthonormal DCT-II matrix C (block, block), float64: coefficients of a block X are C X C^T."""
    frequency = torch.arange(block, dtype=torch.float64)[:, None]
    place = torch.arange(block, dtype=torch.float64)[None, :]
    basis = torch.cos(math.pi * (2 * place + 1) * frequency / (2 * block)) * math.sqrt(2 / block)
    basis[0] /= math.sqrt(2)
    return basis
