"""The `tokenizer` block: how an image becomes a grid of indices into a codebook."""

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tokexp.spec.base import Spec, added, neutral
from tokexp.spec.coefficients import Dct
from tokexp.spec.extensions import Kinds
from tokexp.spec.feature_tokenizers import FeatureKMeans, KClip
from tokexp.spec.published_tokenizers import DalleDvae, Titok, VitVqgan, Vqgan, VqKd
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
    SIZE_FIELD: ClassVar[str] = "codebook_size"

    def num_codes(self) -> int:
        """Return the number of codes."""
        return self.codebook_size

    def code_width(self) -> int:
        """Return the width of a code vector."""
        return self.code_dim

    def code_facts(self) -> dict[str, object]:
        """Return what the codes follow from where they are not stored: nothing, these are."""
        return {}


class FsqQuantizer(Spec):
    """Finite scalar quantisation: every dimension is rounded to a few levels (Mentzer et al. 2023)."""

    kind: Literal["fsq"]
    levels: tuple[Annotated[int, Field(ge=2, le=64)], ...] = Field(
        (8, 8), min_length=1, max_length=8, description="Levels per dimension; their product is the codebook size."
    )
    SIZE_FIELD: ClassVar[str] = "levels"

    def num_codes(self) -> int:
        """Return the number of codes."""
        return prod(self.levels)

    def code_width(self) -> int:
        """Return the width of a code vector."""
        return len(self.levels)

    def code_facts(self) -> dict[str, object]:
        """Return what the codes follow from, so that they need not be stored."""
        return {"fsq_levels": list(self.levels)}


class LfqQuantizer(Spec):
    """Look-up free quantisation: every dimension becomes its sign (Yu et al. 2024, MAGVIT-v2)."""

    kind: Literal["lfq"]
    bits: int = Field(6, ge=1, le=16, description="Dimensions; there are 2 to this many codes.")
    commitment: float = Field(0.25, ge=0, description="Weight that pulls the encoder to its codes.")
    entropy: float = Field(0.1, ge=0, description="Weight of the loss that wants each token sure and all codes in use.")
    diversity: float = Field(1.0, ge=0, description="Weight, within that loss, of all codes being in use.")
    temperature: float = Field(
        1.0, gt=0, description="Of the probabilities of codes in that loss; a low one leaves no slope to learn from."
    )
    SIZE_FIELD: ClassVar[str] = "bits"

    def num_codes(self) -> int:
        """Return the number of codes."""
        return int(2**self.bits)

    def code_width(self) -> int:
        """Return the width of a code vector."""
        return self.bits

    def code_facts(self) -> dict[str, object]:
        """Return what the codes follow from, so that they need not be stored."""
        return {"lfq_bits": self.bits}


QuantizerSpec = Annotated[EmaQuantizer | FsqQuantizer | LfqQuantizer, Kinds("quantizers")]


class Perceptual(Spec):
    """Distance of pictures by a frozen network's features, beside that of pixels (LPIPS, Zhang et al. 2018)."""

    vgg: str = neutral(
        ..., min_length=1, description="File of VGG-16's weights as torchvision names them. Its content enters the key."
    )
    linear: str | None = neutral(
        None, min_length=1, description="File of LPIPS's weights of the features' channels; all count alike without."
    )
    weight: float = Field(1.0, gt=0, le=1e6, description="Factor of this loss.")


class Adversarial(Spec):
    """A discriminator of patches that the decoder has to deceive (Esser et al. 2021, VQGAN, equations 5 to 7)."""

    weight: float = Field(0.8, gt=0, le=1e6, description="Factor of this loss, beside the adaptive one.")
    start: int = Field(0, ge=0, description="Updates before it begins.")
    width: int = Field(64, ge=1, le=1024, description="Channels of the discriminator's first convolution.")
    layers: int = Field(3, ge=1, le=6, description="Halvings of the picture before its patches are judged.")


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
    perceptual: Perceptual | None = added(None, description="A loss by a network's features, beside that of pixels.")
    adversarial: Adversarial | None = added(None, description="A loss by a discriminator, beside that of pixels.")
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    seed: Seed = Field(0, description="Seed of the weights and of the order of images.")

    def grid(self, image_shape: tuple[int, int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the token grid for images of shape (channels, height, width)."""
        return image_shape[1] // self.stride, image_shape[2] // self.stride

    def files(self) -> tuple[str, ...]:
        """Return the files that its training reads; their contents enter the key."""
        named = () if self.perceptual is None else (self.perceptual.vgg, self.perceptual.linear)
        return tuple(name for name in named if name is not None)

    def code_width(self, image_shape: tuple[int, int, int]) -> int:
        """Return the width of a code vector."""
        return self.quantizer.code_width()

    def shares_codes(self) -> bool:
        """Tell whether all trainings have the same codes, as these follow from their indices."""
        return bool(self.quantizer.code_facts())


TokenizerSpec = Annotated[
    PatchKMeans | VqVae | Dct | VitVqgan | Vqgan | DalleDvae | VqKd | Titok | KClip | FeatureKMeans,
    Kinds("tokenizers"),
]
