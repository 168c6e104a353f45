"""The networks of TokenAdapt: f from codes to a space for pixel geometry, g from there back to codes (SeiT++ 3.3).

Both hold one pre-norm transformer block (MLP with Tanh, qkv without bias) and fixed 2-D sine-cosine positions. With 391
codes of width 32, a stored grid of 32 x 32 and a model grid of 28 x 28 they have 3,810,087 trained parameters.
"""

from functools import partial

import torch
from torch import Tensor, nn

from tokexp.augment.adapt_outputs import outputs_of
from tokexp.spec.augment import AdaptSpec
from tokexp.tokenizers.base import Codebook
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.models.vision_transformer import Block  # noqa: E402

Norm = partial(nn.LayerNorm, eps=1e-5)


def fixed_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Return (1, rows x columns, width) sine-cosine positions: first half of the channels the column, second the row.

    Each half is sines, then cosines, of the place times 10000^(-i / (width / 4)).
    """
    frequencies = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (columns, rows)]
    parts = [function(angle) for angle in angles for function in (torch.sin, torch.cos)]
    return torch.cat(parts, dim=1).float()[None]


class ToSpace(nn.Module):
    """f: code embeddings (B, d, *grid) to maps (B, d, *grid x upscale)."""

    positions: Tensor

    def __init__(self, spec: AdaptSpec, codes_width: int, grid: tuple[int, int]) -> None:
        """Take the sizes of the networks, of a code and of the stored grid."""
        super().__init__()
        self.grid = grid
        self.embed = nn.Linear(codes_width, spec.width)
        self.register_buffer("positions", fixed_positions(grid, spec.width))
        self.block = Block(spec.width, spec.heads, act_layer=nn.Tanh, norm_layer=Norm)
        self.norm = Norm(spec.width)
        self.expand = nn.ConvTranspose2d(spec.width, codes_width, spec.upscale, spec.upscale)

    def forward(self, values: Tensor) -> Tensor:
        """Return the maps in S."""
        tokens = self.embed(values.flatten(2).transpose(1, 2)) + self.positions
        tokens = self.norm(self.block(tokens))
        found: Tensor = self.expand(tokens.transpose(1, 2).reshape(len(tokens), -1, *self.grid))
        return found


class ToLogits(nn.Module):
    """g: maps (B, d, *grid x upscale) to logits (B, rows x columns, K) of the codes, or to coefficients."""

    positions: Tensor

    def __init__(self, spec: AdaptSpec, codebook: Codebook, grid: tuple[int, int]) -> None:
        """Take the sizes of the networks, the codebook (for its sizes only) and the model's grid."""
        super().__init__()
        self.shrink = nn.Conv2d(codebook.width, spec.width, spec.upscale, spec.upscale)
        self.register_buffer("positions", fixed_positions(grid, spec.width))
        self.block = Block(spec.width, spec.heads, act_layer=nn.Tanh, norm_layer=Norm)
        self.norm = Norm(spec.width)
        self.head = nn.Linear(spec.width, outputs_of(codebook))

    def forward(self, space: Tensor) -> Tensor:
        """Return the logits, or the coefficients that a model would read."""
        tokens = self.shrink(space).flatten(2).transpose(1, 2) + self.positions
        logits: Tensor = self.head(self.norm(self.block(tokens)))
        return logits


class AdaptNetworks(nn.Module):
    """f and g together, for one codebook, one stored grid and one model grid; positions fix the sizes."""

    def __init__(
        self, spec: AdaptSpec, codebook: Codebook, stored_grid: tuple[int, int], model_grid: tuple[int, int]
    ) -> None:
        """Take the sizes; weights are Xavier-uniform, biases 0."""
        super().__init__()
        self.upscale = spec.upscale
        self.stored_grid, self.model_grid = stored_grid, model_grid
        self.f = ToSpace(spec, codebook.width, stored_grid)
        self.g = ToLogits(spec, codebook, model_grid)
        self.apply(_initialise)

    @property
    def space_size(self) -> tuple[int, int]:
        """Rows and columns of the maps that `to_logits` reads."""
        return self.model_grid[0] * self.upscale, self.model_grid[1] * self.upscale

    def to_space(self, values: Tensor) -> Tensor:
        """Return (B, d, H x upscale, W x upscale) of embeddings (B, d, H, W). Raises ValueError off the stored grid."""
        _check(values, self.stored_grid, "embeddings")
        space: Tensor = self.f(values)
        return space

    def to_logits(self, space: Tensor) -> Tensor:
        """Return (B, h x w, K) of maps (B, d, h x upscale, w x upscale). Raises ValueError for another size."""
        _check(space, self.space_size, "maps")
        logits: Tensor = self.g(space)
        return logits


def _check(maps: Tensor, size: tuple[int, int], what: str) -> None:
    if tuple(maps.shape[-2:]) != size:
        got = " x ".join(str(side) for side in maps.shape[-2:])
        raise ValueError(f"TokenAdapt was built for {what} of {size[0]} x {size[1]}, and these are {got}")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.xavier_uniform_(module.weight.data.flatten(1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
