"""The `tokenizer` block: how an image becomes a grid of indices into a codebook."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds
from tokexp.spec.train import TrainSpec

CodebookSize = Annotated[int, Field(ge=2, le=65536)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class PatchKMeans(Spec):
    """k-means over all non-overlapping pixel patches; one shared codebook; a code decodes to its mean patch."""

    kind: Literal["patch_kmeans"]
    patch_size: int = Field(2, ge=1, le=64, description="Side of a patch in pixels; one token stands for a patch.")
    codebook_size: CodebookSize = Field(64, description="Number of codes asked for; unused ones are dropped.")
    iterations: int = Field(25, ge=1, le=1000, description="Most rounds of Lloyd's algorithm.")
    sample: int = Field(200_000, ge=2, description="Most patches that the codes are fitted on.")
    seed: Seed = Field(0, description="Seed of the start (k-means++) and of the sample.")

    def grid(self, image_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the token grid for images of shape (channels, height, width)."""
        return image_shape[1] // self.patch_size, image_shape[2] // self.patch_size

    def code_width(self, image_shape: tuple[int, int, int]) -> int:
        """Return the width of a code vector."""
        return image_shape[0] * self.patch_size**2


class EmaQuantizer(Spec):
    """Nearest code by Euclidean distance; codes follow by exponential moving average (van den Oord et al. 2017)."""

    kind: Literal["ema"]
    codebook_size: CodebookSize = Field(64, description="Number of codes.")
    code_dim: int = Field(8, ge=1, le=1024, description="Width of a code vector.")
    decay: float = Field(0.95, ge=0, lt=1, description="Decay of the moving averages.")
    commitment: float = Field(0.25, ge=0, description="Weight that pulls the encoder to its codes.")
    restart_below: float = Field(0.5, ge=0, description="A code used less often than this per update is reset.")


class FsqQuantizer(Spec):
    """Finite scalar quantisation: every dimension is rounded to a few levels (Mentzer et al. 2023)."""

    kind: Literal["fsq"]
    levels: tuple[Annotated[int, Field(ge=2, le=64)], ...] = Field(
        (8, 8), min_length=1, max_length=8, description="Levels per dimension; their product is the codebook size."
    )


QuantizerSpec = Annotated[EmaQuantizer | FsqQuantizer, Kinds("quantizers")]


class VqVae(Spec):
    """A small convolutional autoencoder with a quantiser between, trained by tokexp on the training images."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "small": {"train": {"epochs": 40, "batch_size": 128, "lr": 2e-3, "weight_decay": 0.0, "warmup": 0.05}}
    }
    kind: Literal["vqvae"]
    preset: Literal["small"] = Field("small", description="Where the values that are not written come from.")
    quantizer: QuantizerSpec = Field(EmaQuantizer(kind="ema"), description="How features become indices.")
    stride: Literal[1, 2, 4, 8, 16] = Field(2, description="Pixels per token and axis.")
    width: int = Field(32, ge=4, le=1024, description="Channels of the convolutions.")
    blocks: int = Field(1, ge=0, le=16, description="Residual blocks per resolution.")
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    seed: Seed = Field(0, description="Seed of the weights and of the order of images.")

    def grid(self, image_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the token grid for images of shape (channels, height, width)."""
        return image_shape[1] // self.stride, image_shape[2] // self.stride

    def code_width(self, image_shape: tuple[int, int, int]) -> int:
        """Return the width of a code vector."""
        return len(self.quantizer.levels) if isinstance(self.quantizer, FsqQuantizer) else self.quantizer.code_dim


TokenizerSpec = Annotated[PatchKMeans | VqVae, Kinds("tokenizers")]
