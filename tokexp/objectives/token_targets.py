"""The indices that objectives predict: how a grid of tokens is laid over a grid of patches (SeiT++ section 3.2)."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from tokexp.errors import InputError
from tokexp.models.base import Backbone


@runtime_checkable
class Embedding(Protocol):
    """What objectives ask of the token input (tokexp.models.token_input.TokenInput has it)."""

    def indices(self, values: Tensor) -> Tensor:
        """Return indices (B, H, W) of values (B, d, H, W)."""

    def output_table(self) -> Tensor:
        """Return the vectors (K, d) that the head compares with, without gradient."""

    def __call__(self, values: Tensor, indices: Tensor | None = None) -> Tensor:
        """Return embeddings (B, d, H, W)."""


def cells_per_patch(backbone: Backbone) -> tuple[int, int]:
    """Return (rows, columns) of tokens in a patch. Raises InputError if patches do not tile the token grid."""
    cells = tuple(tokens // patches for tokens, patches in zip(backbone.input_grid, backbone.patch_grid, strict=True))
    tiled = tuple(patches * size for patches, size in zip(backbone.patch_grid, cells, strict=True))
    if tiled != backbone.input_grid:
        raise InputError(
            f"to predict tokens, patches must tile the token grid {backbone.input_grid}; choose model.grid as a "
            "multiple of the stem's stride, and a stem without overlap (conv2x2 with stride 2, or patchify)"
        )
    return cells[0], cells[1]


def by_patch(indices: Tensor, patch_grid: tuple[int, int]) -> Tensor:
    """Return (B, N, slots) of a token grid (B, H, W): patches row by row, and the tokens of each row by row.

    H and W must be multiples of the rows and columns of patches.
    """
    (rows, columns), (height, width) = patch_grid, indices.shape[-2:]
    cells = indices.reshape(-1, rows, height // rows, columns, width // columns)
    return cells.transpose(2, 3).flatten(3).flatten(1, 2)
