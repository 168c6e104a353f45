"""The decoder of TokenProp, from patches to a small picture (Qian et al. 2022, table 16)."""

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, gelu, interpolate, pad

from tokexp.spec.token_prop import TokenProp


class PixelDecoder(nn.Module):
    """Patches (B, D, rows, columns) to a picture (B, channels, size, size).

    They become maps of grid x grid; then rows of 3 x 3 convolutions with GELU between them, and a pixel shuffle before
    each of the last rows, which halves no channel count but quarters it as it doubles the sides.
    """

    def __init__(self, spec: TokenProp, width: int, patch_grid: tuple[int, int], channels: int) -> None:
        """Take the rows, the width D of a patch, the (rows, columns) of patches, and the picture's channels."""
        super().__init__()
        self.layout, self.grid = spec.layout, spec.grid
        self.to_map: nn.Module | None = None
        before = width
        if spec.layout == "channels":
            self.to_map, before = nn.Linear(width, spec.grid**2), patch_grid[0] * patch_grid[1]
        widths = (*spec.widths(), channels)
        self.shuffled = [len(widths) - 1 - number < spec.doublings() for number in range(len(widths))]
        rows = list[nn.Module]()
        for after, shuffled in zip(widths, self.shuffled, strict=True):
            before = before // 4 if shuffled else before
            rows.append(Row(before, after, spec.block))
            before = after
        self.rows = nn.ModuleList(rows)

    def forward(self, patches: Tensor) -> Tensor:
        """Return the picture."""
        maps = self._maps(patches)
        for number, (row, shuffled) in enumerate(zip(self.rows, self.shuffled, strict=True)):
            maps = gelu(maps) if number else maps
            maps = row(nn.functional.pixel_shuffle(maps, 2) if shuffled else maps)
        return maps

    def _maps(self, patches: Tensor) -> Tensor:
        side = (self.grid, self.grid)
        if self.to_map is not None:
            stacked: Tensor = self.to_map(patches.flatten(2).mT).unflatten(-1, side)
            return stacked
        if patches.shape[2:] == side:
            return patches
        if patches.shape[2] > self.grid:
            return adaptive_avg_pool2d(patches, side)
        return interpolate(patches, side, mode="bilinear", align_corners=False)


class Row(nn.Module):
    """A 3 x 3 convolution, with a skip connection (1 x 1 where widths differ) or without, or two of them with one."""

    def __init__(self, before: int, after: int, block: str) -> None:
        """Take the channels on both sides, and "skip", "plain" or "double"."""
        super().__init__()
        self.first = nn.Conv2d(before, after, kernel_size=3, padding=1)
        self.second = nn.Conv2d(after, after, kernel_size=3, padding=1) if block == "double" else None
        projects = block != "plain" and before != after
        self.skip = nn.Conv2d(before, after, kernel_size=1, bias=False) if projects else None
        self.keeps = block != "plain" and before == after

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, after, H, W)."""
        weight = self.first.weight
        if self.second is None and self.skip is not None:
            # A 1 x 1 convolution is the middle of one of 3 x 3: both cost what one does.
            weight = weight + pad(self.skip.weight, (1, 1, 1, 1))
        found = conv2d(maps, weight, self.first.bias, padding=1)
        if self.second is not None:
            found = self.second(gelu(found))
            found = found if self.skip is None else found + self.skip(maps)
        return found + maps if self.keeps else found
