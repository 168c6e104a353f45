"""Objectives that hide patches and predict their tokens: `mim` (patches at random) and `beit` (blocks of patches).

Sources: Bao et al. 2022 (BEiT), Peng et al. 2022 (BEiT v2) and their released masking; Baraldi et al. 2023 (MaPeT) for
random patches. Counts are shares of the patches: the sources' 75 and 78 are of 14 x 14 = 196.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.token_targets import PRESET, RECIPE, PredictsTokens, Preset

RELEASED_RATIO = 75 / 196
"""BEiT's run scripts mask 75 of 196 patches; its paper says 40 %."""


class Masks(PredictsTokens):
    """An objective that hides a share of the patches, the same number of every image at most."""

    ratio: float = Field(0.4, gt=0, lt=1, description="Share of the patches that is masked, rounded to whole patches.")

    def predicted(self, num_patches: int) -> int:
        """Return how many of N patches are masked, at most."""
        return min(max(1, round(num_patches * self.ratio)), num_patches - 1)


class Mim(Masks):
    """Masked image modelling: predict the tokens of patches that were masked at random (MaPeT section 3)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"train": RECIPE},
        "released": {"ratio": RELEASED_RATIO, "train": RECIPE},
    }
    kind: Literal["mim"]
    preset: Preset = PRESET


class BlockSpec(Spec):
    """How blocks of patches are drawn until the masked count is reached (BEiT, algorithm 1)."""

    smallest: int = Field(16, ge=1, le=65536, description="Smallest area of a block in patches.")
    largest: int | None = Field(
        None, ge=1, le=65536, description="Largest area of a block in patches; what is left to mask if not given."
    )
    aspect: float = Field(0.3, gt=0, le=1, description="Lowest height over width; the highest is its inverse.")
    exact: bool = Field(
        True, description="Repair the count with random patches (BEiT v2), or take what the blocks came to, which "
        "differs from image to image and is at most the count (BEiT v1)."
    )  # fmt: skip

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.largest is not None and self.largest < self.smallest:
            raise ValueError(f"smallest ({self.smallest}) must not exceed largest ({self.largest})")
        return self


class Beit(Masks):
    """BEiT: masked image modelling with masks that are made of rectangular blocks (Bao et al. 2022)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"train": RECIPE},
        "released": {"ratio": RELEASED_RATIO, "blocks": {"exact": False}, "train": RECIPE},
        "released_v2": {"ratio": RELEASED_RATIO, "train": RECIPE},
    }
    kind: Literal["beit"]
    preset: Literal["paper", "released", "released_v2"] = Field(
        "paper", description="Where the values not written come from: the paper, the release of BEiT, or of BEiT v2."
    )
    blocks: BlockSpec = Field(BlockSpec(), description="How the blocks are drawn.")
