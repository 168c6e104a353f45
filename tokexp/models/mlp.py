"""A perceptron over single patches and their mean: what tokens say without their places.

Source: Baraldi et al. 2025 (MaPeT), section 5.3: embedding, linear layer, ReLU, average pooling (then the classifier).
"""

from torch import Tensor, nn

from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.registry import implementation
from tokexp.spec.perceptrons import MlpSpec


class Mlp(Backbone):
    """Stem, ReLU, `depth` times a linear layer and ReLU, mean over patches. No class token, positions or final norm."""

    has_class_token = False

    def __init__(self, spec: MlpSpec, in_channels: int, input_grid: tuple[int, int]) -> None:
        """Take the sizes and what is read."""
        super().__init__()
        self.in_channels, self.input_grid, self.width = in_channels, input_grid, spec.width
        self.patch_grid = spec.patch_grid(input_grid)
        self.stem: nn.Module = implementation("stems", spec.stem.kind)(spec.stem, in_channels, spec.width)
        self.layers = nn.ModuleList(nn.Linear(spec.width, spec.width) for _ in range(spec.depth))
        self.norm = nn.Identity()

    def embed(self, values: Tensor) -> Tensor:
        """Return patches (B, N, width) of the stem, row by row."""
        patches: Tensor = self.stem(values)
        return patches.flatten(2).transpose(1, 2)

    def encode(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return (B, N, width) after the last ReLU. Raises InputError if patches are left out."""
        if kept is not None:
            raise InputError("mlp knows no places: it cannot leave some of them out; this needs model.kind: vit")
        out = patches.relu()
        for layer in self.layers:
            out = layer(out).relu()
        return out

    def pool(self, encoded: Tensor, how: str = "mean") -> Tensor:
        """Return (B, width): the mean over patches. Raises ValueError for anything but "mean"."""
        if how != "mean":
            raise ValueError(f"mlp has no class token; features are pooled by 'mean', not {how!r}")
        return encoded.mean(1)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the stem, each layer, and nothing for the norm that is not there: depth + 2 groups."""
        return [list(self.stem.parameters()), *(list(layer.parameters()) for layer in self.layers), []]


def build(
    spec: MlpSpec, in_channels: int, input_grid: tuple[int, int], drop_path: float = 0.0, positions: str = "learned"
) -> Mlp:  # fmt: skip
    """Return a new perceptron with random weights (seed the global generator before); it has no paths to drop."""
    del drop_path
    if positions != "learned":
        raise InputError("mlp has no table of positions; this needs model.kind: vit")
    return Mlp(spec, in_channels, input_grid)
