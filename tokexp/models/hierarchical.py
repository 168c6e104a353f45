"""What `swin` and `pvt_v2` share: timm's stages, with the body's end and the stem of this project.

Sources: Liu et al. 2021 (Swin Transformer); Wang et al. 2022 (PVT v2); Qian et al. 2022 (MoTo and TokenProp on them).
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.registry import implementation
from tokexp.spec.hierarchical import Hierarchical


@dataclass
class Body:
    """timm's parts of a model: the norm after the stem, the stages, and the final norm.

    `stages` take maps (B, rows, columns, C); each holds `blocks` and what stands around them.
    """

    stem_norm: nn.Module
    stages: nn.Module
    norm: nn.Module


class HierarchicalBackbone(Backbone):
    """Stem, layer norm, stages, final norm, and the mean over what the last stage leaves (both models' own order).

    There is no class token. `patch_grid` is the stem's; `encode` gives the patches that the last stage leaves.
    """

    has_class_token = False

    def __init__(self, spec: Hierarchical, in_channels: int, input_grid: tuple[int, int], body: Body) -> None:
        """Take the spec, what is read, and timm's parts for that grid of patches."""
        super().__init__()
        self.in_channels, self.input_grid = in_channels, input_grid
        self.width, self.patch_grid = spec.widths_by_stage()[-1], spec.patch_grid(input_grid)
        self._stem_width = spec.stem_width
        self.stem: nn.Module = implementation("stems", spec.stem.kind)(spec.stem, in_channels, spec.stem_width)
        self.stem_norm, self.stages, self.norm = body.stem_norm, body.stages, body.norm

    @property
    def stem_width(self) -> int:
        """Width of the first stage."""
        return self._stem_width

    def embed(self, values: Tensor) -> Tensor:
        """Return patches (B, N, stem_width), row by row."""
        patches: Tensor = self.stem(values)
        return patches.flatten(2).transpose(1, 2)

    def encode(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return (B, n, width) of the last stage before the final norm. Raises InputError if patches are left out."""
        if kept is not None:
            raise InputError(f"{type(self).__name__} merges neighbouring patches: it cannot leave some of them out")
        return self.run_stages(self.stem_norm(patches).unflatten(1, self.patch_grid))

    @abstractmethod
    def run_stages(self, maps: Tensor) -> Tensor:
        """Return (B, n, width) of the last stage for maps (B, rows, columns, stem_width)."""

    def pool(self, encoded: Tensor, how: str = "mean") -> Tensor:
        """Return (B, width): the mean of patches after the final norm. Raises ValueError for anything but "mean"."""
        if how != "mean":
            raise ValueError(f"{type(self).__name__} has no class token; features are pooled by 'mean', not {how!r}")
        pooled: Tensor = self.norm(encoded).mean(1)
        return pooled

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the stem and its norm, each block, and the final norm.

        What merges patches goes with the block after it, a stage's own norm with the block before it.
        """
        groups = [[*self.stem.parameters(), *self.stem_norm.parameters()]]
        for stage in self.stages.children():
            groups += _by_block(stage)
        return [*groups, list(self.norm.parameters())]


def _by_block(stage: nn.Module) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters of each of a stage's blocks, with what stands around them at both ends."""
    parts = dict(stage.named_children())
    blocks = list(parts.pop("blocks").children())
    after = list(parts.pop("norm").parameters()) if "norm" in parts else []
    before = [parameter for part in parts.values() for parameter in part.parameters()]
    for number, block in enumerate(blocks):
        first, last = number == 0, number == len(blocks) - 1
        yield [*(before if first else []), *block.parameters(), *(after if last else [])]


def check_positions(kind: str, positions: str) -> None:
    """Raise InputError for any other start of positions than the model's own."""
    if positions != "learned":
        raise InputError(f"{kind} has no table of positions that could start as {positions}")
