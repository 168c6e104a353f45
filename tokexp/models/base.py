"""What every backbone gives to objectives and tasks."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from tokexp.errors import InputError
from tokexp.models.streams import Streams as Streams
from tokexp.models.streams import additive as additive


class Backbone(nn.Module, ABC):
    """A transformer over patches, with one class token in front or, where `has_class_token` is false, without.

    Without one, patches may be merged on the way: `encode` then gives fewer of them and refuses to leave some out;
    objectives that work on single patches are refused by validation.

    in_channels, input_grid (rows, columns of tokens or pixels), width, patch_grid (rows, columns of patches), stem
    (values to maps (B, stem_width, rows, columns), where `embed` begins) and norm (the final norm, which `encode`
    leaves to its caller) are set by the constructor.
    """

    in_channels: int
    input_grid: tuple[int, int]
    width: int
    patch_grid: tuple[int, int]
    stem: nn.Module
    norm: nn.Module
    has_class_token: bool = True

    @property
    def stem_width(self) -> int:
        """Width of a patch as the stem gives it."""
        return self.width

    @abstractmethod
    def embed(self, values: Tensor) -> Tensor:
        """Return patches (B, N, stem_width) of the stem for values (B, C, H, W), before positions are added."""

    @abstractmethod
    def encode(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Add positions, keep the patches at `kept` (B, n) if given, put the class token in front, run all blocks.

        Returns (B, 1 + n, width) BEFORE the final norm; without a class token (B, n, width) of the last patches.
        """

    @abstractmethod
    def pool(self, encoded: Tensor, how: str = "mean") -> Tensor:
        """Return (B, width): the patches' mean (or the class token) and the final norm, in the model's own order."""

    @abstractmethod
    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return the parameters from stem, positions, class token (group 0) through each block to the final norm."""

    def undecayed(self) -> set[str]:
        """Return names of parameters without weight decay, beside those of one dimension."""
        return set()

    def place(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return (B, 1 + n, width), what `encode` gives its first block. Raises InputError where there is none."""
        raise InputError(f"{type(self).__name__} does not order its patches; this objective needs model.kind: vit")

    def two_streams(self, rows: Tensor, streams: Streams) -> Tensor:
        """Return the queries (B, T, width) of rows (B, free + 2 T, width) after all blocks, BEFORE the final norm."""
        raise InputError(f"{type(self).__name__} cannot run two streams; this objective needs model.kind: vit")

    def forward(self, values: Tensor) -> Tensor:
        """Return pooled features (B, width)."""
        return self.pool(self.encode(self.embed(values)))
