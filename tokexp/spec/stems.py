"""The `model.stem` block: how tokens or pixels become patches.

Sources: Dosovitskiy et al. 2021 (ViT); Park et al. 2023 (SeiT, Stem-Adapter); Xiao et al. 2021 (convolutional stem);
Chen et al. 2021 (MoCo v3, frozen projection); Qian et al. 2022 (MoTo, and the refinements of its table 1).
"""

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds

Grid = tuple[int, int]


class Stem(Spec):
    """What every stem says of itself; a stem of another package extends this class too."""

    kind: str = Field(description="The stem.")

    @property
    def overlaps(self) -> bool:
        """Whether a patch depends on anything outside of its own square, so that hiding it would hide too little."""
        return True

    def patch_grid(self, input_grid: Grid) -> Grid:
        """Return (rows, columns) of patches for an input of that many tokens (or pixels)."""
        raise NotImplementedError

    def fault(self, side: int) -> str:
        """Return why a square of this side cannot be cut into patches; nothing where it can."""
        raise NotImplementedError

    def grid_fault(self, input_grid: Grid) -> str:
        """Return why an input whose sides have no fault cannot be cut all the same; nothing where it can."""
        del input_grid
        return ""

    def misfit(self, width: int, depth: int) -> str:
        """Return why the stem does not go with a model of this width and depth; nothing where it does."""
        del width, depth
        return ""


class Conv4x4Stem(Stem):
    """SeiT's Stem-Adapter: 4 x 4 convolution, stride 2, padding 1. Neighbours overlap: not for masked objectives."""

    kind: Literal["conv4x4"]
    stride: Literal[2] = Field(2, description="Tokens per patch and axis.")

    def patch_grid(self, input_grid: Grid) -> Grid:
        """Return half the rows and columns."""
        return input_grid[0] // 2, input_grid[1] // 2

    def fault(self, side: int) -> str:
        """Refuse odd sides."""
        return "an even number of at least 2 is needed" if side % 2 or side < 2 else ""


class Conv2x2Stem(Stem):
    """2 x 2 convolution; stride 2 does not overlap (as MTM needs), stride 1 is for tokenizers of 16 pixels a token."""

    kind: Literal["conv2x2"]
    stride: Literal[1, 2] = Field(2, description="Tokens per patch and axis.")

    @property
    def overlaps(self) -> bool:
        """Only with stride 1."""
        return self.stride == 1

    def patch_grid(self, input_grid: Grid) -> Grid:
        """Return half the rows and columns, or one less with stride 1."""
        rows, columns = input_grid
        return (rows - 1, columns - 1) if self.stride == 1 else (rows // 2, columns // 2)

    def fault(self, side: int) -> str:
        """Refuse odd sides, or with stride 1 a single token."""
        if self.stride == 1:
            return "at least 2 are needed" if side < 2 else ""
        return "an even number of at least 2 is needed" if side % 2 or side < 2 else ""


class Patches(Stem):
    """A stem that makes one patch of every square of `patch_size` pixels (or tokens)."""

    patch_size: int = Field(16, ge=1, le=64, description="Side of a patch in pixels (or tokens).")

    def patch_grid(self, input_grid: Grid) -> Grid:
        """Return the squares that fit."""
        return input_grid[0] // self.patch_size, input_grid[1] // self.patch_size

    def fault(self, side: int) -> str:
        """Refuse sides that the patches do not fill."""
        return f"patch_size {self.patch_size} must divide {side}" if side % self.patch_size else ""


class PatchifyStem(Patches):
    """ViT's own stem: one non-overlapping convolution over square patches (of pixels, or of tokens)."""

    kind: Literal["patchify"]

    @property
    def overlaps(self) -> bool:
        """Never."""
        return False


class FrozenStem(Patches):
    """A random projection of square patches that is never trained (MoCo v3)."""

    kind: Literal["frozen"]

    @property
    def overlaps(self) -> bool:
        """Never."""
        return False


class ConvStem(Patches):
    """3 x 3 convolutions of stride 2 with batch norm and ReLU, then one of 1 x 1 (Xiao et al. 2021)."""

    kind: Literal["conv"]
    widths: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        (), description="Channels of the convolutions of stride 2, one for each halving of a patch's side; the model's "
        "width at the last and half of the next at the others if not given."
    )  # fmt: skip
    norm: Literal["batch", "none"] = Field("batch", description="What follows each convolution of stride 2.")

    @model_validator(mode="after")
    def _halvings(self) -> Self:
        steps = self.patch_size.bit_length() - 1
        if self.patch_size < 2 or self.patch_size != 2**steps:
            raise ValueError(f"patch_size {self.patch_size} given; convolutions of stride 2 need a power of 2, from 2")
        if self.widths and len(self.widths) != steps:
            raise ValueError(f"{len(self.widths)} widths given; patches of {self.patch_size} need {steps}")
        return self


class OverlapStem(Patches):
    """One convolution whose window reaches halfway into the neighbours, as PVT v2 has it (Wang et al. 2022)."""

    kind: Literal["overlap"]


class T2tStem(Stem):
    """Tokens-to-token: windows unfolded and mixed by small transformers, three times (T2T-ViT, Yuan et al. 2021)."""

    kind: Literal["t2t"]
    kernels: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (7, 3, 3), min_length=1, max_length=6, description="Sides of the windows, one for each unfolding."
    )
    strides: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (4, 2, 2), min_length=1, max_length=6, description="Their strides; a patch spans the product."
    )
    width: int = Field(64, ge=1, le=8192, description="Width of the small transformers.")
    mlp_ratio: float = Field(1.0, gt=0, le=16, description="Width of their MLP over their width.")

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if len(self.kernels) != len(self.strides):
            raise ValueError(f"{len(self.kernels)} kernels and {len(self.strides)} strides given; one each is needed")
        if any(kernel < stride for kernel, stride in zip(self.kernels, self.strides, strict=True)):
            raise ValueError("a kernel below its stride leaves pixels out")
        if any(stride == 1 and kernel % 2 == 0 for kernel, stride in zip(self.kernels, self.strides, strict=True)):
            raise ValueError("a stride of 1 needs an odd kernel, or there is a window more than places")
        return self

    def patch_grid(self, input_grid: Grid) -> Grid:
        """Return the windows of the last unfolding."""
        return input_grid[0] // prod(self.strides), input_grid[1] // prod(self.strides)

    def fault(self, side: int) -> str:
        """Refuse sides that the patches do not fill."""
        return f"the product of strides, {prod(self.strides)}, must divide {side}" if side % prod(self.strides) else ""


class _MultiScale(Patches):
    """Convolutions of several sizes around the middle of every patch, concatenated and projected."""

    kernels: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(
        (), max_length=8, description="Sides of the convolutions; a quarter, half and all of a patch if not given."
    )  # fmt: skip
    channels: int | None = Field(
        None, ge=1, le=8192, description="Channels of each convolution; two thirds of the model's width if not given."
    )

    def sizes(self) -> tuple[int, ...]:
        """Return the sides of the convolutions."""
        return self.kernels or tuple(sorted({max(1, self.patch_size // part) for part in (4, 2, 1)}))


class IntraStem(_MultiScale):
    """Multi-scale patches: convolutions of several sizes, one value of each per patch (MoTo, "intra-token")."""

    kind: Literal["intra"]

    @property
    def overlaps(self) -> bool:
        """Only with a kernel above the patch size."""
        return max(self.sizes()) > self.patch_size


class _HalfStride(_MultiScale):
    @model_validator(mode="after")
    def _even(self) -> Self:
        if self.patch_size % 2:
            raise ValueError(f"patch_size {self.patch_size} given; half of it is the stride, so an even one is needed")
        return self


class LocalStem(_HalfStride):
    """As intra with half the stride, so that windows overlap; 2 x 2 of them are averaged (MoTo, "locality")."""

    kind: Literal["local"]


class InterStem(_HalfStride):
    """As local with transformer blocks over all windows before they are averaged (MoTo, "inter-token")."""

    kind: Literal["inter"]
    blocks: int = Field(1, ge=1, le=8, description="Transformer blocks (pre-norm).")
    heads: int | None = Field(None, ge=1, le=128, description="Attention heads; one for every 64 of the width "
                              "if not given.")  # fmt: skip
    mlp_ratio: float = Field(4.0, gt=0, le=16, description="Width of the MLP over the width.")

    def misfit(self, width: int, depth: int) -> str:
        """Refuse heads that do not divide the width."""
        del depth
        return f"heads ({self.heads}) must divide width ({width})" if width % (self.heads or 1) else ""


PlainStem = Annotated[
    Conv4x4Stem
    | Conv2x2Stem
    | PatchifyStem
    | FrozenStem
    | IntraStem
    | LocalStem
    | InterStem
    | ConvStem
    | OverlapStem
    | T2tStem,
    Kinds("stems"),
]
"""Every stem but `moto`, which stands around one of these."""


class MotoStem(Stem):
    """MoTo: normalise soft regions of the picture (or of the patches), each by its own statistics (Qian et al. 2022).

    No code of the paper was released. Where it is silent, preset attnorm takes what AttenNorm (Wang et al. 2020) does,
    whose equations it shares; preset default what trains well.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {},
        "paper": {"dictionary": "normal", "key_width": "full"},
        "attnorm": {
            "entities": 16, "placement": "token", "statistics": "literal", "affine": False, "value": True, "gate": True,
            "replacement": True, "eval_sampling": "off", "clamp": True, "key_width": "eighth", "semantic_std": 1.0,
        },
    }  # fmt: skip
    kind: Literal["moto"]
    preset: Literal["default", "paper", "attnorm"] = Field(
        "default", description="Where the values not written come from: the paper where it says, or AttenNorm's code."
    )
    inner: PlainStem = Field(PatchifyStem(kind="patchify"), description="The stem that MoTo is put into.")
    placement: Literal["pixel", "token"] = Field(
        "pixel", description="pixel: before the inner stem, between two 3 x 3 convolutions beside the picture; token: "
        "after it."
    )  # fmt: skip
    blocks: tuple[Annotated[int, Field(ge=1, le=128)], ...] = Field(
        (), description="Numbers of the model's blocks, counted from 1, at whose end its patches are normalised too."
    )
    norm: Literal["regions", "instance", "layer", "batch"] = Field(
        "regions", description="regions: MoTo; others: a plain normalisation in its place (table 6)."
    )
    entities: int = Field(8, ge=1, le=256, description="Regions n.")
    partition: Literal["soft", "hard"] = Field("soft", description="Shares of all regions, or the likeliest alone.")
    temperature: float = Field(0.1, gt=0, le=100, description="What the activation is multiplied by (tau).")
    statistics: Literal["weighted", "literal"] = Field(
        "weighted", description="Mean and deviation weighted by the layout, or of the picture times the layout (eq. 5)."
    )
    affine: bool = Field(True, description="Learn a scale and a shift per region and channel.")
    value: bool = Field(False, description="Normalise a 1 x 1 convolution of the input instead of the input.")
    gate: bool = Field(False, description="Add the result to the input, times a learned factor that starts at 0.")
    channels: int = Field(16, ge=1, le=512, description="Channels between the convolutions of placement pixel.")
    key_width: Literal["auto", "full", "eighth"] = Field(
        "auto", description="Channels of keys and queries: all, an eighth, or an eighth but at least 8."
    )
    semantic_kernel: Literal[1, 3] = Field(1, description="Side of the convolution f.")
    semantic_std: float = Field(0.02, gt=0, description="Deviation of the first weights of f.")
    dictionary: Literal["constant", "normal"] = Field(
        "constant", description="First values of the dictionary u: 0.1, or drawn from the normal."
    )
    clamp: bool = Field(False, description="Hold the dictionary within 0 and 1.")
    sampling: Literal["shared", "per_image"] = Field(
        "shared", description="Whether the images of a micro-batch share the positions of their keys."
    )
    replacement: bool = Field(False, description="Whether a position can be drawn twice.")
    eval_sampling: Literal["grid", "random", "off"] = Field(
        "grid", description="Keys outside of training: evenly spaced, drawn, or none (f alone)."
    )
    eps: float = Field(1e-5, gt=0, lt=1, description="Added to deviations.")

    @field_validator("preset", mode="before")
    @classmethod
    def _nothing_released(cls, given: Any) -> Any:
        if given == "released":
            raise ValueError("no code of MoTo was released; write default, paper or attnorm")
        return given

    @property
    def overlaps(self) -> bool:
        """Always, for statistics are of the whole picture; but not where a layer norm stands in MoTo's place."""
        single = self.norm == "layer" and self.placement == "token"
        return self.inner.overlaps or not single

    def patch_grid(self, input_grid: Grid) -> Grid:
        """Return those of the inner stem."""
        return self.inner.patch_grid(input_grid)

    def misfit(self, width: int, depth: int) -> str:
        """Refuse blocks that the model does not have, and what the inner stem refuses."""
        last = max(self.blocks, default=0)
        return f"there is no block {last} of {depth}" if last > depth else self.inner.misfit(width, depth)

    def fault(self, side: int) -> str:
        """Refuse what the inner stem refuses."""
        return self.inner.fault(side)

    def grid_fault(self, input_grid: Grid) -> str:
        """Refuse more regions than patches where keys are drawn among these, and to normalise maps of one place."""
        patches, of_patches = prod(self.patch_grid(input_grid)), self.placement == "token" or bool(self.blocks)
        if of_patches and self.entities > patches:
            return f"entities ({self.entities}) must not exceed the {patches} patches"
        if self.norm == "instance" and (patches if of_patches else prod(input_grid)) == 1:
            return "norm: instance is over the places of a map, and there is one"
        return ""


StemSpec = Annotated[
    Conv4x4Stem
    | Conv2x2Stem
    | PatchifyStem
    | FrozenStem
    | IntraStem
    | LocalStem
    | InterStem
    | ConvStem
    | OverlapStem
    | T2tStem
    | MotoStem,
    Kinds("stems"),
]
