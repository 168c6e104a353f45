"""The `model` block: a vision transformer on token embeddings or on pixels, or one whose patches are merged on the way.

Sources: Dosovitskiy et al. 2021 (ViT); Park et al. 2023 (SeiT), Stem-Adapter; SeiT++ section 3; Yuan et al. 2021
(T2T-ViT), table 1. Those that merge patches are in `hierarchical`.
"""

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.base import added
from tokexp.spec.extensions import Kinds
from tokexp.spec.hierarchical import PvtV2Spec, SwinSpec
from tokexp.spec.perceptrons import MlpSpec
from tokexp.spec.stems import Conv4x4Stem, Grid, MotoStem, StemSpec


class VitSpec(BackboneSpec):
    """timm's ViT with learned positions, an unused class token, and mean pooling before the last norm (SeiT)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 192, "depth": 12, "heads": 3},
        "small": {"width": 384, "depth": 12, "heads": 6},
        "base": {"width": 768, "depth": 12, "heads": 12},
        "t2t_14": {"width": 384, "depth": 14, "heads": 6, "mlp_ratio": 3.0, "stem": {"kind": "t2t"}},
        "t2t_19": {"width": 448, "depth": 19, "heads": 7, "mlp_ratio": 3.0, "stem": {"kind": "t2t"}},
        "free": {},
    }
    PRESET_FIELD: ClassVar[str] = "size"
    KEEPS_PATCHES: ClassVar[bool] = True
    kind: Literal["vit"]
    size: Literal["tiny", "small", "base", "t2t_14", "t2t_19", "free"] = Field(
        "free", description="A published size (t2t_14, t2t_19 with stem t2t), or free: width, depth, heads as written."
    )
    width: int = Field(192, ge=8, le=8192, description="Width of a token in the transformer.")
    depth: int = Field(12, ge=1, le=128, description="Number of blocks.")
    heads: int = Field(3, ge=1, le=128, description="Attention heads; must divide the width.")
    mlp_ratio: float = Field(4.0, gt=0, le=16, description="Width of the MLP over the width.")
    stem: StemSpec = Field(Conv4x4Stem(kind="conv4x4"), description="From embeddings (or pixels) to patches.")
    layer_scale: float | None = added(
        None, gt=0, le=1, description="First factor of a block's branches, learned per channel; no factor if not given."
    )
    rescale: bool = added(
        False, description="Divide the first weights that end a branch of block l by sqrt(2 l), as BEiT does."
    )
    positions: Literal["absolute", "relative_shared", "relative_blocks", "relative_both"] = added(
        "absolute", description="absolute: a table added to the patches. relative: learned biases of the attention's "
        "scores in its place, one table shared by all blocks (BEiT), one for each, or both (DTM, BEiT v2). Tasks that "
        "start from a pre-training have one for each, into which the shared one was folded."
    )  # fmt: skip

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        if self.width % 4:
            raise ValueError(f"width ({self.width}) must be a multiple of 4 (sin-cos positions)")
        return self

    @model_validator(mode="after")
    def _blocks_take_biases(self) -> Self:
        if self.positions != "absolute" and isinstance(self.stem, MotoStem) and self.stem.blocks:
            raise ValueError(f"positions: {self.positions} does not go with MoTo in blocks (stem.blocks)")
        return self

    @property
    def stem_width(self) -> int:
        """Width of the transformer."""
        return self.width

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.depth

    def tuned(self) -> Self:
        """Return the model of tasks that start from a pre-training of this one: no blocks share a table."""
        shares = self.positions in ("relative_shared", "relative_both")
        return self.model_copy(update={"positions": "relative_blocks"}) if shares else self

    def label(self) -> str:
        """Return such as `vit-small` or `vit-64x4`."""
        return f"vit-{self.size}" if self.size != "free" else f"vit-{self.width}x{self.depth}"

    def operations(self, patches: Grid) -> float:
        """Return those of attention and MLPs over all patches and the class token."""
        tokens = prod(patches) + 1
        block = (8 + 4 * self.mlp_ratio) * tokens * self.width**2 + 4 * tokens**2 * self.width
        return self.depth * block

    def weights(self, patches: Grid) -> int:
        """Return those of the blocks and positions."""
        rows, columns = patches
        tables = {"absolute": 0, "relative_shared": 1, "relative_blocks": self.depth, "relative_both": self.depth + 1}
        places = tables[self.positions] * (2 * rows - 1) * (2 * columns - 1) * self.heads
        if self.positions == "absolute":
            places = (prod(patches) + 1) * self.width
        return round(self.depth * (4 + 2 * self.mlp_ratio) * self.width**2 + places)


ModelSpec = Annotated[VitSpec | SwinSpec | PvtV2Spec | MlpSpec, Kinds("models")]
