"""Learned biases of attention scores by relative position (Bao et al. 2022, BEiT; Liu et al. 2021, Swin).

The score of query i and key j gets table[(r_i - r_j, c_i - c_j), head] added, for patches at row r and column c. The
class token has no place: three further entries stand for class token to patch, patch to class token, and class token
to itself. One table for all blocks (BEiT), one for each, or both, which add up (DTM's and BEiT v2's pre-training).
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

CLASS_ENTRIES = 3
"""Entries behind those of patches: class token to patch, patch to class token, class token to itself."""

_SHARED = "bias.shared.table"
"""How the name of a table that blocks share ends; those of their own are `bias.blocks.NUMBER.table`."""


def relative_index(grid: tuple[int, int]) -> Tensor:
    """Return (1 + N, 1 + N) int64: the table's entry for every query and key, the class token first."""
    rows, columns = grid
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    apart = places[:, None] - places[None] + torch.tensor([rows - 1, columns - 1])
    count = table_size(grid) - CLASS_ENTRIES
    index = torch.empty(1 + len(places), 1 + len(places), dtype=torch.int64)
    index[1:, 1:] = apart[..., 0] * (2 * columns - 1) + apart[..., 1]
    index[0], index[:, 0], index[0, 0] = count, count + 1, count + 2
    return index


def table_size(grid: tuple[int, int]) -> int:
    """Return the entries of a table for patches of a grid (rows, columns)."""
    return (2 * grid[0] - 1) * (2 * grid[1] - 1) + CLASS_ENTRIES


class RelativeBias(nn.Module):
    """A table (entries, heads), zeros at first, and the biases that it stands for."""

    index: Tensor

    def __init__(self, grid: tuple[int, int], heads: int) -> None:
        """Take the grid of patches and the number of heads."""
        super().__init__()
        self.table = nn.Parameter(torch.zeros(table_size(grid), heads))
        self.register_buffer("index", relative_index(grid), persistent=False)

    def forward(self) -> Tensor:
        """Return (heads, 1 + N, 1 + N), to be added to the scores."""
        return self.table[self.index].permute(2, 0, 1)


class BiasedAttention(nn.Module):
    """The biases of all blocks of an encoder, by `model.positions`."""

    def __init__(self, positions: str, grid: tuple[int, int], heads: int, depth: int) -> None:
        """Take "relative_shared", "relative_blocks" or "relative_both", and the encoder's shape."""
        super().__init__()
        self.shared = RelativeBias(grid, heads) if positions != "relative_blocks" else None
        per_block = depth if positions != "relative_shared" else 0
        self.blocks = nn.ModuleList(RelativeBias(grid, heads) for _ in range(per_block))
        self.depth = depth

    def forward(self) -> list[Tensor]:
        """Return the bias (1, heads, 1 + N, 1 + N) of every block."""
        shared = None if self.shared is None else self.shared()
        own = [block() for block in self.blocks]
        if shared is None:
            return [each[None] for each in own]
        return [(shared + each)[None] for each in own] if own else [shared[None]] * self.depth


def folded(state: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """Return weights for a model with parameters of these names, whose blocks may have tables of their own alone.

    Then a shared one is added to each of them, or stands in their place if there were none: all biases stay as they
    are. So begins the fine-tuning of BEiT, whose pre-training has the shared table alone, and of DTM, which has both.
    """
    found = dict(state)
    for name in [name for name in state if name.endswith(_SHARED) and name not in names]:
        shared, before = found.pop(name), f"{name.removesuffix('shared.table')}blocks."
        for own in (each for each in names if each.startswith(before)):
            found[own] = found[own] + shared if own in found else shared.clone()
    return found
