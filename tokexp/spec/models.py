"""The `model` block: a vision transformer on token embeddings or on pixels, and its stem.

Sources: Dosovitskiy et al. 2021 (ViT); Park et al. 2023 (SeiT), Stem-Adapter; SeiT++ section 3.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds


class Conv4x4Stem(Spec):
    """SeiT's Stem-Adapter: 4 x 4 convolution, stride 2, padding 1. Neighbours overlap: not for masked objectives."""

    kind: Literal["conv4x4"]
    stride: Literal[2] = Field(2, description="Tokens per patch and axis.")


class Conv2x2Stem(Spec):
    """2 x 2 convolution; stride 2 does not overlap (as MTM needs), stride 1 is for tokenizers of 16 pixels a token."""

    kind: Literal["conv2x2"]
    stride: Literal[1, 2] = Field(2, description="Tokens per patch and axis.")


class PatchifyStem(Spec):
    """ViT's own stem: one non-overlapping convolution over square patches (of pixels, or of tokens)."""

    kind: Literal["patchify"]
    patch_size: int = Field(16, ge=1, le=64, description="Side of a patch in pixels (or tokens).")


StemSpec = Annotated[Conv4x4Stem | Conv2x2Stem | PatchifyStem, Kinds("stems")]


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

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        if self.width % 4:
            raise ValueError(f"width ({self.width}) must be a multiple of 4 (sin-cos positions)")
        return self

    def patch_grid(self, input_grid: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of patches for an input of that many tokens (or pixels)."""
        rows, columns = input_grid
        if isinstance(self.stem, PatchifyStem):
            return rows // self.stem.patch_size, columns // self.stem.patch_size
        if isinstance(self.stem, Conv2x2Stem) and self.stem.stride == 1:
            return rows - 1, columns - 1
        return rows // 2, columns // 2


ModelSpec = VitSpec
