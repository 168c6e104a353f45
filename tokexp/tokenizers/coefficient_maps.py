"""Levels of coefficients as tokens: how they lie in the stored grid, and the vectors that a model reads of them.

A store's grid holds one map of levels (rows x columns of blocks) per coefficient, one below the other: all of
brightness in zig-zag order, then all of the first colour channel, then of the second. Neighbours of a number are so
those of its own frequency, which is what codecs look at. Colour at half resolution stands in pairs, a coefficient of
the first channel left and the same of the second right, so that the grid stays a rectangle.
Sources: own; the order of coefficients is that of ITU-T T.81 (1992, JPEG), figure 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tokexp.errors import DamagedError
from tokexp.tokenizers.base import Codebook
from tokexp.tokenizers.jpeg_tables import steps, zigzag

FACT = "dct"
"""The note in a store's facts that says that its tokens are levels of coefficients."""

_WHITE = 255.0


@dataclass(frozen=True)
class CoefficientLayout:
    """Which coefficients there are, and how they lie in the stored grid.

    luma, chroma: coefficients of a block of brightness, and of each of the two colour channels (0 without colour).
    half: colour has half the rows and columns.
    """

    luma: int
    chroma: int
    half: bool

    @property
    def channels(self) -> int:
        """Return the coefficients of a place."""
        return self.luma + 2 * self.chroma

    def map_grid(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of blocks in a stored grid."""
        rows, columns = stored
        return (2 * rows // (2 * self.luma + self.chroma) if self.half else rows // self.channels), columns

    def unfold(self, stored: Tensor) -> Tensor:
        """Return maps (B, channels, rows, columns) of a stored grid; colour of half resolution is repeated."""
        count, (rows, columns) = len(stored), self.map_grid((stored.shape[1], stored.shape[2]))
        if not self.half:
            return stored.view(count, self.channels, rows, columns)
        cut = self.luma * rows
        luma = stored[:, :cut].reshape(count, self.luma, rows, columns)
        pairs = stored[:, cut:].reshape(count, self.chroma, rows // 2, 2, columns // 2)
        chroma = pairs.permute(0, 3, 1, 2, 4).reshape(count, 2 * self.chroma, rows // 2, columns // 2)
        return torch.cat([luma, chroma.repeat_interleave(2, 2).repeat_interleave(2, 3)], dim=1)

    def fold(self, maps: Tensor) -> Tensor:
        """Return the stored grid of maps (B, channels, rows, columns); of repeated colour, the first of each four."""
        if not self.half:
            return maps.flatten(1, 2)
        luma, chroma = maps[:, : self.luma], maps[:, self.luma :, ::2, ::2]
        pairs = chroma.reshape(len(maps), 2, self.chroma, *chroma.shape[2:]).permute(0, 2, 3, 1, 4)
        return torch.cat([luma.flatten(1, 2), pairs.flatten(3).flatten(1, 2)], dim=1)

    def planes(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return brightness (B, luma, rows, columns) and colour (B, 2, chroma, ...), at half resolution its mean."""
        luma, chroma = maps[:, : self.luma], maps[:, self.luma :]
        if self.half:
            chroma = avg_pool2d(chroma, 2)
        return luma, chroma.reshape(len(maps), 2, self.chroma, *chroma.shape[2:])


def coefficient_steps(layout: CoefficientLayout, quality: int, block: int) -> Tensor:
    """Return the quantiser's step (channels,) of every coefficient in the layout's order, float64."""
    order = zigzag(block)
    luma, chroma = (steps(quality, block, colour).flatten()[order] for colour in (False, True))
    return torch.cat([luma[: layout.luma], chroma[: layout.chroma], chroma[: layout.chroma]])


class CoefficientBook(Codebook):
    """Levels in use (K, 1), ascending, and what one of them is worth at every coefficient.

    Indices are (B, channels, rows, columns), embeddings have the same shape: level x step / unit.
    """

    is_table: ClassVar[bool] = False
    gains: Tensor
    spreads: Tensor

    def __init__(self, codes: Tensor, layout: CoefficientLayout, gains: Tensor, spreads: Tensor) -> None:
        """Take levels (K, 1), what a level is worth, and the embeddings' deviations, (channels,) each."""
        super().__init__(codes)
        self.layout = layout
        self.register_buffer("gains", gains.float()[:, None, None])
        self.register_buffer("spreads", spreads.float()[:, None, None])

    @property
    def width(self) -> int:
        """Return the coefficients of a place."""
        return self.layout.channels

    @property
    def spread(self) -> Tensor:
        """Return the standard deviation (channels, 1, 1) of every coefficient as it is read."""
        return self.spreads

    def map_grid(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of blocks in a stored grid."""
        return self.layout.map_grid(stored)

    def unfold(self, stored: Tensor) -> Tensor:
        """Return indices (B, channels, rows, columns) of stored grids."""
        return self.layout.unfold(stored)

    def fold(self, indices: Tensor) -> Tensor:
        """Return the stored grids of indices (B, channels, rows, columns)."""
        return self.layout.fold(indices)

    def lookup(self, indices: Tensor) -> Tensor:
        """Return embeddings (B, channels, rows, columns)."""
        return self.codes[:, 0][indices] * self.gains

    def nearest(self, values: Tensor) -> Tensor:
        """Return the indices of the levels in use that are nearest to values, both (B, channels, rows, columns)."""
        with torch.autocast(values.device.type, enabled=False):
            levels = self.codes[:, 0]
            return torch.bucketize((values.float() / self.gains).contiguous(), (levels[1:] + levels[:-1]) / 2)


def book_of(codes: Tensor, facts: Mapping[str, Any]) -> CoefficientBook:
    """Return the book of levels (K, 1) by what `DctTokenizer.code_facts` noted. Raises DamagedError without that."""
    try:
        layout = CoefficientLayout(facts["luma"], facts["chroma"], facts["half"])
        step = coefficient_steps(layout, facts["quality"], facts["block"])
        deviations = torch.tensor(facts["deviations"], dtype=torch.float64)
        if deviations.shape != step.shape:
            raise ValueError(f"{len(deviations)} deviations of {len(step)} coefficients")
        unit = deviations if facts["scale"] == "deviation" else torch.full_like(deviations, _WHITE)
        return CoefficientBook(codes, layout, step / unit, deviations / unit)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedError("the store's note on its coefficients cannot be read; restore the file") from error
