"""Tokenizers of the literature, each read from its published checkpoint; defaults are the published sizes.

Sources: Yu et al. 2021 (ViT-VQGAN), as released by thuanz123/enhancing-transformers; Esser et al. 2021 (VQGAN) and
Rombach et al. 2022, as released by CompVis; Ramesh et al. 2021 (DALL-E), as released by OpenAI; Peng et al. 2022
(BEiT v2), as released by Microsoft; Yu et al. 2024 (TiTok), as released by ByteDance.
"""

from collections.abc import Mapping
from math import isqrt, prod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec, neutral

Shape = tuple[int, int, int]


def _check_groups(width: int, multipliers: tuple[int, ...]) -> None:
    """Raise ValueError for widths of levels that the norms' 32 groups do not divide."""
    wrong = [factor for factor in (1, *multipliers) if (width * factor) % min(32, width * factor)]
    if wrong:
        raise ValueError(f"width ({width}) times {wrong[0]} must be a multiple of 32 (groups of the norms)")


class FrozenTokenizer(Spec):
    """What all tokenizers with weights from a file share: the file, and the size of image that they read."""

    kind: str
    checkpoint: str | None = neutral(None, min_length=1, description="The file of its weights, if it has any.")
    input_size: int | None = Field(
        None, ge=4, le=4096, description="Side in pixels that images are resized to (bicubic) before they are encoded; "
        "that of the data if not given."
    )  # fmt: skip

    def files(self) -> tuple[str, ...]:
        """Return the files whose content decides what the tokenizer is."""
        return () if self.checkpoint is None else (self.checkpoint,)

    def input_side(self, image_shape: Shape) -> tuple[int, int]:
        """Return (height, width) of what the network reads, for images (channels, height, width)."""
        return image_shape[1:] if self.input_size is None else (self.input_size, self.input_size)

    def grid(self, image_shape: Shape) -> tuple[int, int]:
        """Return (rows, columns) of the token grid for images of shape (channels, height, width)."""
        height, width = self.input_side(image_shape)
        return height // self.pixels_per_side(), width // self.pixels_per_side()

    def fault(self, image_shape: Shape) -> str:
        """Return why such images cannot be encoded and what to change; nothing where they can."""
        side, step = self.input_side(image_shape), self.pixels_per_side()
        if image_shape[0] != 3:
            return f"{self.kind} reads 3 channels, and these images have {image_shape[0]}"
        if side[0] % step or side[1] % step:
            return f"its {step} pixels per token do not divide {side[0]} x {side[1]} pixels; set input_size"
        return ""

    def pixels_per_side(self) -> int:
        """Return how many pixels of what the network reads a token spans, per axis."""
        raise NotImplementedError

    def operations(self, image_shape: Shape) -> float:
        """Return about how many operations an image takes to encode; 0 where that is not known."""
        return 0.0

    def num_codes(self) -> int:
        """Return the number of codes."""
        raise NotImplementedError

    def code_width(self, image_shape: Shape) -> int:
        """Return the width of a code vector."""
        raise NotImplementedError


class ReleasedTokenizer(FrozenTokenizer):
    """A tokenizer whose codes and network come together in one published file."""

    checkpoint: str = neutral(
        ..., min_length=1, description="Its published checkpoint: safetensors or a torch file. Its content enters the "
        "key; nothing in it is run."
    )  # fmt: skip
    codebook_size: int = Field(8192, ge=2, le=65536, description="Number of codes.")
    code_dim: int = Field(32, ge=1, le=4096, description="Width of a code vector.")

    def num_codes(self) -> int:
        """Return the number of codes."""
        return self.codebook_size

    def code_width(self, image_shape: Shape) -> int:
        """Return the width of a code vector."""
        return self.code_dim


class TransformerTokenizer(ReleasedTokenizer):
    """What the three that encode by a transformer share: sizes, and a table of positions."""

    RESAMPLES: ClassVar[bool] = False
    """Whether the table is brought to the grid of other inputs; where it is not, it fixes the input."""

    width: int = Field(768, ge=2, le=8192, description="Width of the transformer.")
    depth: int = Field(12, ge=1, le=128, description="Blocks of the transformer.")
    heads: int = Field(12, ge=1, le=128, description="Attention heads; the width over them is a head's.")
    patch_size: int = Field(16, ge=1, le=64, description="Side of a patch in pixels.")
    positions: int = Field(14, ge=1, le=512, description="Side of the stored table of positions.")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self

    def pixels_per_side(self) -> int:
        """Return the side of a patch."""
        return self.patch_size

    def operations(self, image_shape: Shape) -> float:
        """Return the operations of a block's products (24 width^2 for a token), in all blocks, for one image."""
        tokens = prod(self.input_side(image_shape)) / self.patch_size**2
        return 24.0 * tokens * self.width**2 * self.depth

    def fault(self, image_shape: Shape) -> str:
        """Return why such images cannot be encoded; a table of positions that is not resampled fits one size alone."""
        side, reads = self.positions * self.patch_size, self.input_side(image_shape)
        if self.RESAMPLES or reads == (side, side):
            return super().fault(image_shape)
        return (
            f"it reads {side} x {side} pixels, and is given {reads[0]} x {reads[1]}; set data.image_size or "
            f"tokenizer.input_size to {side}"
        )


class VitVqgan(TransformerTokenizer):
    """ViT-VQGAN: transformers on both sides of l2-normalised codes; 32 x 32 tokens of 256 x 256 pixels (SeiT's)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"width": 512, "depth": 8, "heads": 8, "mlp_width": 2048},
        "base": {"width": 768, "depth": 12, "heads": 12, "mlp_width": 3072},
    }
    PRESET_FIELD: ClassVar[str] = "size"
    kind: Literal["vit_vqgan"]
    size: Literal["small", "base"] = Field("base", description="The published size; what is written beside it wins.")
    mlp_width: int = Field(3072, ge=1, le=65536, description="Hidden width of the MLPs.")
    patch_size: int = Field(8, ge=1, le=64, description="Side of a patch in pixels.")
    positions: int = Field(
        32, ge=1, le=512, description="Side of the stored table of positions, which fixes the input."
    )


class Vqgan(ReleasedTokenizer):
    """VQGAN: convolutions and nearest codes; f16 gives 16 x 16 tokens of 256 x 256 pixels, f8 32 x 32."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "f16_1024": {"multipliers": (1, 1, 2, 2, 4), "codebook_size": 1024},
        "f16_16384": {"multipliers": (1, 1, 2, 2, 4), "codebook_size": 16384},
        "f8_256": {"multipliers": (1, 2, 2, 4), "z_channels": 4, "code_dim": 4, "codebook_size": 256},
        "f8_8192": {"multipliers": (1, 1, 2, 4), "codebook_size": 8192, "quantizer": "gumbel"},
    }
    PRESET_FIELD: ClassVar[str] = "variant"
    kind: Literal["vqgan"]
    variant: Literal["f16_1024", "f16_16384", "f8_256", "f8_8192"] = Field(
        "f16_16384", description="Pixels per token and codes of the release; what is written beside it wins."
    )
    width: int = Field(128, ge=1, le=1024, description="Channels of the first level.")
    multipliers: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (1, 1, 2, 2, 4), min_length=1, max_length=7, description="Channels of each level over the width; every level "
        "but the last halves the sides."
    )  # fmt: skip
    blocks: int = Field(2, ge=1, le=16, description="Residual blocks per level of the encoder.")
    z_channels: int = Field(256, ge=1, le=4096, description="Channels of the encoder's features.")
    code_dim: int = Field(256, ge=1, le=4096, description="Width of a code vector.")
    codebook_size: int = Field(16384, ge=2, le=65536, description="Number of codes.")
    quantizer: Literal["nearest", "gumbel"] = Field(
        "nearest", description="nearest: the code of smallest distance; gumbel: the largest logit, never drawn."
    )

    @model_validator(mode="after")
    def _groups_divide(self) -> Self:
        _check_groups(self.width, self.multipliers)
        return self

    def operations(self, image_shape: Shape) -> float:
        """Return the operations of the blocks' 3 x 3 convolutions, two a block, for one image."""
        pixels, total = float(prod(self.input_side(image_shape))), 0.0
        for level, factor in enumerate(self.multipliers):
            total += 2 * 9 * pixels / 4**level * 2 * self.blocks * (self.width * factor) ** 2
        return total

    def pixels_per_side(self) -> int:
        """Return 2 to the number of halvings."""
        return int(2 ** (len(self.multipliers) - 1))


class DalleDvae(ReleasedTokenizer):
    """DALL-E's discrete VAE: 8192 logits for 8 x 8 pixels; BEiT's 14 x 14 tokens come from input_size 112."""

    kind: Literal["dalle_dvae"]
    checkpoint: str = neutral(..., min_length=1, description="The released encoder.pkl, or its tensors as safetensors.")
    decoder: str = neutral(
        ..., min_length=1, description="The released decoder.pkl, or its tensors as safetensors; it holds the codes."
    )
    width: int = Field(256, ge=4, le=4096, multiple_of=4, description="Channels of the finest level.")
    code_dim: int = Field(128, ge=1, le=4096, description="Width of a code vector.")

    def files(self) -> tuple[str, ...]:
        """Return both files."""
        return self.checkpoint, self.decoder

    def operations(self, image_shape: Shape) -> float:
        """Return the operations of the two blocks of each level, for one image."""
        pixels, total = float(prod(self.input_side(image_shape))), 0.0
        for level in range(4):
            wide = self.width * 2**level
            # Of the width w, the branch has 9 w w/4, twice 9 (w/4)^2, and w/4 w.
            total += 2 * 2 * pixels / 4**level * wide**2 * (9 / 4 + 18 / 16 + 1 / 4)
        return total

    def pixels_per_side(self) -> int:
        """Return 8: three halvings."""
        return 8


class VqKd(TransformerTokenizer):
    """VQ-KD, BEiT v2's tokenizer: a ViT-B/16 taught by CLIP (or DINO); 14 x 14 tokens of 224 x 224 pixels.

    Other sizes are read with the positions resampled: 16 x 16 tokens of 256 x 256 pixels.
    """

    RESAMPLES: ClassVar[bool] = True
    kind: Literal["vq_kd"]
    teacher: Literal["clip", "dino"] = Field(
        "clip", description="What the released file was taught by, for the record."
    )
    mlp_width: int = Field(3072, ge=1, le=65536, description="Hidden width of the MLPs.")


class Titok(TransformerTokenizer):
    """TiTok: 32, 64 or 128 tokens for a whole image of 256 x 256 pixels, none of which stands for a place."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "l32": {"tokens": 32, "width": 1024, "depth": 24, "heads": 16},
        "b64": {"tokens": 64, "width": 768, "depth": 12, "heads": 12},
        "s128": {"tokens": 128, "width": 512, "depth": 8, "heads": 8},
    }
    PRESET_FIELD: ClassVar[str] = "size"
    kind: Literal["titok"]
    size: Literal["l32", "b64", "s128"] = Field("l32", description="The release; what is written beside it wins.")
    tokens: int = Field(32, ge=1, le=65536, description="Tokens of an image; laid out as a grid near a square.")
    width: int = Field(1024, ge=2, le=8192, description="Width of the transformer.")
    depth: int = Field(24, ge=1, le=128, description="Blocks of the transformer.")
    heads: int = Field(16, ge=1, le=128, description="Attention heads; the width over them is a head's.")
    positions: int = Field(16, ge=1, le=512, description="Side of the table of positions, which fixes the input.")
    codebook_size: int = Field(4096, ge=2, le=65536, description="Number of codes.")
    code_dim: int = Field(12, ge=1, le=4096, description="Width of a code vector.")
    decoder: bool = Field(
        True, description="Whether its decoders are read too, so that tokens become images; false for a file without "
        "them, and to spare the memory."
    )  # fmt: skip
    pixel_width: int = Field(128, ge=1, le=1024, description="Channels of the pixel decoder's finest level.")
    pixel_multipliers: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (1, 1, 2, 2, 4), min_length=1, max_length=7, description="Channels of the pixel decoder's levels over its "
        "width; every level but the first doubles the sides, up to a patch's."
    )  # fmt: skip
    pixel_codes: int = Field(1024, ge=2, le=65536, description="Codes between the two decoders (MaskGIT's).")
    pixel_code_dim: int = Field(256, ge=1, le=4096, description="Width of such a code.")

    @model_validator(mode="after")
    def _decoder_fits(self) -> Self:
        side = 2 ** (len(self.pixel_multipliers) - 1)
        if self.decoder and side != self.patch_size:
            raise ValueError(
                f"the pixel decoder makes {side} x {side} pixels of a place (pixel_multipliers), and a patch has "
                f"{self.patch_size} x {self.patch_size}"
            )
        _check_groups(self.pixel_width, self.pixel_multipliers)
        return self

    def grid(self, image_shape: Shape) -> tuple[int, int]:
        """Return (rows, columns): the row of tokens, folded as near a square as its number allows."""
        rows = next(rows for rows in range(isqrt(self.tokens), 0, -1) if self.tokens % rows == 0)
        return rows, self.tokens // rows
