"""Models whose patches are merged on the way: `swin` and `pvt_v2`, with any stem in place of their own.

Sources: Liu et al. 2021 (Swin Transformer), table 7; Wang et al. 2022 (PVT v2), table 1; sizes as timm names them.
Qian et al. 2022 (MoTo and TokenProp) put both methods on their stems.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.stems import Grid, MotoStem, OverlapStem, Patches, PatchifyStem, StemSpec

OWN_PATCH = 4
"""Side of a patch of the models' own stems, in pixels: what a stem gets that is written without its patch_size."""

Width = Annotated[int, Field(ge=1, le=8192)]
Depth = Annotated[int, Field(ge=1, le=128)]
Heads = Annotated[int, Field(ge=1, le=128)]

_PATCHES = frozenset(
    str(member.model_fields["kind"].annotation.__args__[0])
    for member in get_args(get_args(StemSpec)[0])
    if issubclass(member, Patches)
)


class Hierarchical(BackboneSpec):
    """Stages of blocks; from each stage to the next, four neighbouring patches become one wider patch.

    The layer norm that these models have after their own stem stands after any stem.
    """

    PRESET_FIELD: ClassVar[str] = "size"
    OWN_STEM: ClassVar[str] = ""

    depths: tuple[Depth, ...] = Field((), min_length=1, max_length=8, description="Blocks of each stage.")
    heads: tuple[Heads, ...] = Field((), min_length=1, max_length=8, description="Attention heads of each stage.")

    @model_validator(mode="before")
    @classmethod
    def _own_patches(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and isinstance(given.get("stem"), Mapping):
            return {**given, "stem": _with_patches(given["stem"], cls.OWN_STEM)}
        return given

    @model_validator(mode="after")
    def _stages_agree(self) -> Self:
        stages = len(self.depths)
        for name, values in self.by_stage().items():
            if len(values) != stages:
                raise ValueError(f"{len(values)} {name} and {stages} depths given; each stage needs one of both")
        for number, (width, heads) in enumerate(zip(self.widths_by_stage(), self.heads, strict=True), 1):
            if width % heads:
                raise ValueError(f"heads ({heads}) must divide the width ({width}) of stage {number}")
        if isinstance(self.stem, MotoStem) and self.stem.blocks:
            raise ValueError("stem moto: blocks are normalised in model.kind: vit alone; leave stem.blocks out")
        return self

    @property
    def stem_width(self) -> int:
        """Width of the first stage."""
        return self.widths_by_stage()[0]

    @property
    def blocks(self) -> int:
        """Number of blocks, over all stages."""
        return sum(self.depths)

    def by_stage(self) -> dict[str, tuple[Any, ...]]:
        """Return the fields, beside depths, that have a value for each stage."""
        return {"heads": self.heads}

    def widths_by_stage(self) -> tuple[int, ...]:
        """Return the width of each stage."""
        raise NotImplementedError

    def label(self) -> str:
        """Return such as `swin-tiny` or `swin-32x2+2`."""
        size = getattr(self, self.PRESET_FIELD)
        return f"{self.kind}-{size}" if size != "free" else f"{self.kind}-{self.stem_width}x{_joined(self.depths)}"

    def grids(self, patches: Grid) -> tuple[Grid, ...]:
        """Return (rows, columns) of each stage; where a side is odd, its last patch is merged alone."""
        rows, columns = patches
        return tuple((-(-rows >> number), -(-columns >> number)) for number in range(len(self.depths)))


class SwinSpec(Hierarchical):
    """timm's Swin: attention within windows, shifted in every second block."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
        "small": {"width": 96, "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24)},
        "base": {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)},
        "large": {"width": 192, "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48)},
        "free": {},
    }
    OWN_STEM: ClassVar[str] = "patchify"
    kind: Literal["swin"]
    size: Literal["tiny", "small", "base", "large", "free"] = Field(
        "free", description="timm's swin_SIZE_patch4_window7_224, or free: width, depths and heads as written."
    )
    width: int = Field(96, ge=1, le=8192, description="Width of the first stage; it doubles from stage to stage.")
    depths: tuple[Depth, ...] = Field((2, 2, 6, 2), min_length=1, max_length=8, description="Blocks of each stage.")
    heads: tuple[Heads, ...] = Field(
        (3, 6, 12, 24), min_length=1, max_length=8, description="Attention heads of each stage; must divide its width."
    )
    window: int = Field(7, ge=1, le=64, description="Side of a window in patches; smaller where a stage is smaller.")
    mlp_ratio: float = Field(4.0, gt=0, le=16, description="Width of the MLP over the width.")
    stem: StemSpec = Field(
        PatchifyStem(kind="patchify", patch_size=OWN_PATCH),
        description="From embeddings (or pixels) to patches, of 4 where no patch_size is written.",
    )

    def widths_by_stage(self) -> tuple[int, ...]:
        """Return the width of each stage."""
        return tuple(self.width << number for number in range(len(self.depths)))

    def operations(self, patches: Grid) -> float:
        """Return those of attention within windows, MLPs and merging; padding of windows is left out."""
        total, before = 0.0, 0
        for grid, depth, width in zip(self.grids(patches), self.depths, self.widths_by_stage(), strict=True):
            seen = min(self.window, grid[0]) * min(self.window, grid[1])
            block = (4 + 2 * self.mlp_ratio) * width**2 + 2 * seen * width
            total += 2 * prod(grid) * (depth * block + 4 * before * width)
            before = width
        return total

    def weights(self, patches: Grid) -> int:
        """Return those of the blocks and of merging."""
        del patches
        widths = self.widths_by_stage()
        blocks = sum(depth * (4 + 2 * self.mlp_ratio) * w**2 for depth, w in zip(self.depths, widths, strict=True))
        return round(blocks) + sum(4 * before * after for before, after in pairwise(widths))


class PvtV2Spec(Hierarchical):
    """timm's PVT v2: attention to keys that a convolution thins out, and MLPs with one in them."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "b0": {"depths": (2, 2, 2, 2), "widths": (32, 64, 160, 256)},
        "b1": {"depths": (2, 2, 2, 2)},
        "b2": {"depths": (3, 4, 6, 3)},
        "b3": {"depths": (3, 4, 18, 3)},
        "b4": {"depths": (3, 8, 27, 3)},
        "b5": {"depths": (3, 6, 40, 3), "mlp_ratios": (4.0, 4.0, 4.0, 4.0)},
        "free": {},
    }
    OWN_STEM: ClassVar[str] = "overlap"
    kind: Literal["pvt_v2"]
    size: Literal["b0", "b1", "b2", "b3", "b4", "b5", "free"] = Field(
        "free", description="timm's pvt_v2_SIZE, or free: widths, depths and the rest as written."
    )
    widths: tuple[Width, ...] = Field(
        (64, 128, 320, 512), min_length=1, max_length=8, description="Width of each stage."
    )  # fmt: skip
    depths: tuple[Depth, ...] = Field((3, 4, 6, 3), min_length=1, max_length=8, description="Blocks of each stage.")
    heads: tuple[Heads, ...] = Field(
        (1, 2, 5, 8), min_length=1, max_length=8, description="Attention heads of each stage; must divide its width."
    )
    reductions: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        (8, 4, 2, 1), min_length=1, max_length=8, description="Side of the squares of patches that share a key."
    )
    mlp_ratios: tuple[Annotated[float, Field(gt=0, le=16)], ...] = Field(
        (8.0, 8.0, 4.0, 4.0), min_length=1, max_length=8, description="Width of the MLP over the width, by stage."
    )
    stem: StemSpec = Field(
        OverlapStem(kind="overlap", patch_size=OWN_PATCH),
        description="From embeddings (or pixels) to patches, of 4 where no patch_size is written.",
    )

    def by_stage(self) -> dict[str, tuple[Any, ...]]:
        """Return the fields, beside depths, that have a value for each stage."""
        return {
            "widths": self.widths, "heads": self.heads, "reductions": self.reductions, "mlp_ratios": self.mlp_ratios
        }  # fmt: skip

    def widths_by_stage(self) -> tuple[int, ...]:
        """Return the width of each stage."""
        return self.widths

    def body_fault(self, patches: Grid) -> tuple[str, str] | None:
        """Refuse a stage that has fewer patches on a side than share a key."""
        for number, (grid, squares) in enumerate(zip(self.grids(patches), self.reductions, strict=True), 1):
            if squares > min(grid):
                return "reductions", f"{squares} given for stage {number}, which has {grid[0]} x {grid[1]} patches"
        return None

    def operations(self, patches: Grid) -> float:
        """Return those of attention to thinned keys, MLPs with their convolutions, and merging."""
        total, before = 0.0, 0
        stages = zip(self.grids(patches), self.depths, self.widths, self.reductions, self.mlp_ratios, strict=True)
        for (rows, columns), depth, width, squares, ratio in stages:
            count, keys = rows * columns, (rows // squares) * (columns // squares)
            thinning = keys * squares**2 * width**2 if squares > 1 else 0
            attention = 2 * (count + keys) * width**2 + 2 * count * keys * width + thinning
            block = attention + count * ratio * width * (2 * width + 9)
            total += 2 * (depth * block + 9 * count * before * width)
            before = width
        return total

    def weights(self, patches: Grid) -> int:
        """Return those of the blocks and of merging."""
        del patches
        stages = zip(self.depths, self.widths, self.reductions, self.mlp_ratios, strict=True)
        blocks = sum(
            depth * ((4 + 2 * ratio + (squares**2 if squares > 1 else 0)) * width**2 + 9 * ratio * width)
            for depth, width, squares, ratio in stages
        )
        return round(blocks) + sum(9 * before * after for before, after in pairwise(self.widths))


def _with_patches(stem: Mapping[str, Any], own: str) -> dict[str, Any]:
    """Return a written stem with the models' own patches where it does not say which."""
    kind = stem.get("kind")
    if kind == "moto":
        inner = stem.get("inner", {"kind": own})
        return {**stem, "inner": _with_patches(inner, own) if isinstance(inner, Mapping) else inner}
    return {"patch_size": OWN_PATCH, **stem} if isinstance(kind, str) and kind in _PATCHES else dict(stem)


def _joined(depths: tuple[int, ...]) -> str:
    return "+".join(map(str, depths))
