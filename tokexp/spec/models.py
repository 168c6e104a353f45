"""The `model` block: a vision transformer on token embeddings or on pixels, and its stem.

Sources: Dosovitskiy et al. 2021 (ViT); Park et al. 2023 (SeiT), Stem-Adapter; SeiT++ section 3.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec, added
from tokexp.spec.stems import Conv4x4Stem, StemSpec


class VitSpec(Spec):
    """timm's ViT with learned positions, an unused class token, and mean pooling before the last norm (SeiT)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 192, "depth": 12, "heads": 3},
        "small": {"width": 384, "depth": 12, "heads": 6},
        "base": {"width": 768, "depth": 12, "heads": 12},
        "free": {},
    }
    PRESET_FIELD: ClassVar[str] = "size"
    kind: Literal["vit"]
    size: Literal["tiny", "small", "base", "free"] = Field(
        "free", description="A published size, or free: width, depth and heads as written."
    )
    width: int = Field(192, ge=8, le=8192, description="Width of a token in the transformer.")
    depth: int = Field(12, ge=1, le=128, description="Number of blocks.")
    heads: int = Field(3, ge=1, le=128, description="Attention heads; must divide the width.")
    mlp_ratio: float = Field(4.0, gt=0, le=16, description="Width of the MLP over the width.")
    input: Literal["tokens", "pixels"] = Field("tokens", description="What the model reads.")
    pixel_norm: Literal["half", "imagenet", "none"] = Field(
        "half", description="What is done to pixels in [0, 1]: (x - 0.5) / 0.5, ImageNet's mean and deviation, nothing."
    )
    grid: int | None = Field(
        None, ge=1, le=512, description="Side of the token grid that the model reads; the stored grid if not given."
    )
    stem: StemSpec = Field(Conv4x4Stem(kind="conv4x4"), description="From embeddings (or pixels) to patches.")
    layer_scale: float | None = added(
        None, gt=0, le=1, description="First factor of a block's branches, learned per channel; no factor if not given."
    )
    rescale: bool = added(
        False, description="Divide the first weights that end a branch of block l by sqrt(2 l), as BEiT does."
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        if self.width % 4:
            raise ValueError(f"width ({self.width}) must be a multiple of 4 (sin-cos positions)")
        return self

    @model_validator(mode="after")
    def _stem_fits(self) -> Self:
        reason = self.stem.misfit(self.width, self.depth)
        if reason:
            raise ValueError(f"stem {self.stem.kind}: {reason}")
        return self

    def patch_grid(self, input_grid: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of patches for an input of that many tokens (or pixels)."""
        return self.stem.patch_grid(input_grid)


ModelSpec = VitSpec
