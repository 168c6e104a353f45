"""Objectives that predict tokens one after another in a random order: `pim`, and `mapet`, which adds mask tokens.

Source: Baraldi et al. 2023 (MaPeT), sections 3 and 4, tables 6 and 8, and their release.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.token_targets import PRESET, RECIPE, PredictsTokens, Preset

CUT_SHARE = 50 / 196
"""The cutting point of ViT-T and ViT-S over the number of patches; ViT-B has 60."""

_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {"train": RECIPE},
    "released": {"cut_counts_cls": True, "train": RECIPE},
}


class _Permutes(PredictsTokens):
    cut: int | None = Field(
        None, ge=0, le=65536, description="Cutting point: the first so many of the random order are context, the "
        "others are predicted; 50 of every 196 patches if not given."
    )  # fmt: skip
    cut_counts_cls: bool = Field(
        False, description="Whether the class token is one of the cut (the release), or only patches are (the paper)."
    )

    @model_validator(mode="after")
    def _cut_holds_the_class_token(self) -> Self:
        if self.cut == 0 and self.cut_counts_cls:
            raise ValueError("cut: 0 given; the class token is one of the cut (cut_counts_cls), so write at least 1")
        return self

    def context(self, num_patches: int) -> int:
        """Return how many of N patches are context."""
        cut = round(num_patches * CUT_SHARE) if self.cut is None else self.cut
        return max(0, cut - 1) if self.cut_counts_cls else cut

    def predicted(self, num_patches: int) -> int:
        """Return how many of N patches are predicted; below 1 where the cut does not fit."""
        return num_patches - self.context(num_patches)


class Pim(_Permutes):
    """Permuted image modelling: each token is predicted from the patches before it in a random order (equation 1)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = _PRESETS
    kind: Literal["pim"]
    preset: Preset = PRESET


class Mapet(_Permutes):
    """MaPeT: as pim, with a mask token at every place that is not yet seen, so that all see all places (equation 2)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = _PRESETS
    kind: Literal["mapet"]
    preset: Preset = PRESET
