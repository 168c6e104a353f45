"""Fixed two-dimensional sine-cosine positions, as MAE and MAGE use them (Vaswani et al. 2017; He et al. 2022)."""

import torch
from torch import Tensor


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Return (1, 1 + rows x columns, width) float32: a row of zeros for the class token, then patches row by row.

    The first half of the channels encodes the column, the second half the row (MAE's axis order). Each half is the
    sines, then the cosines, of the place times 10000^(-4 i / width) for i = 0 .. width / 4 - 1. Raises ValueError
    for a width that is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"sine-cosine positions need a width that is a multiple of 4, not {width}")
    rows, columns = grid
    quarter = width // 4
    frequencies = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    down = torch.arange(rows, dtype=torch.float64).repeat_interleave(columns)[:, None] * frequencies
    across = torch.arange(columns, dtype=torch.float64).repeat(rows)[:, None] * frequencies
    table = torch.cat([across.sin(), across.cos(), down.sin(), down.cos()], dim=1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), table]).float()[None]
