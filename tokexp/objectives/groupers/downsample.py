"""Squares of neighbouring patches as groups (Kim et al. 2024, DTM, table 2: down-sampling): the same in every image."""

import torch
from torch import Tensor

from tokexp.errors import InputError
from tokexp.objectives.groupers.base import Grouper, Grouping
from tokexp.objectives.morphing.schedules import Level
from tokexp.spec.morphing import Downsample


class Downsampling(Grouper):
    """Groups of factor x factor patches, row by row."""

    scheduled = False

    def __init__(self, spec: Downsample) -> None:
        """Take the side of a square."""
        self.factor = spec.factor
        self._grid = (0, 0)

    def check(self, grid: tuple[int, int]) -> None:
        """Take the grid of patches. Raises InputError if squares do not tile it."""
        if grid[0] % self.factor or grid[1] % self.factor:
            raise InputError(f"grouper downsample: squares of {self.factor} do not tile {grid[0]} x {grid[1]} patches")
        self._grid = grid

    def group(self, tokens: Tensor, level: Level, generator: torch.Generator) -> Grouping:
        """Return the squares of the grid that `check` was given."""
        del level, generator
        rows, columns = self._grid
        across = columns // self.factor
        down, right = torch.arange(rows, device=tokens.device), torch.arange(columns, device=tokens.device)
        labels = (down // self.factor * across)[:, None] + right // self.factor
        return Grouping(labels.flatten().expand(tokens.shape[:2]), rows // self.factor * across)


def build(spec: Downsample) -> Downsampling:
    """Return the grouper of a spec."""
    return Downsampling(spec)
