"""The `cae` objective: predict what the encoder would say of hidden patches, and from that their tokens.

Sources: Chen et al. 2022 (CAE, arXiv 2202.03026) and its release; Baraldi et al. 2023 (MaPeT), which trains it with the
recipe of all the objectives that it compares. `paper` is MaPeT's setting, `released` that of CAE's own code.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.masked import BlockSpec, Masks
from tokexp.spec.token_targets import PRESET, RECIPE, Preset

_RELEASED_RECIPE: Mapping[str, Any] = {**RECIPE, "schedule": {**RECIPE["schedule"], "unit": "step"}}

HEAD_WIDTH = 64
"""Width of an attention head where the spec does not say how many heads there are."""


class Neck(Spec):
    """Regressor and decoder: two stacks of transformer blocks of one width, used in pre-training alone."""

    width: int | None = Field(
        384, ge=8, le=8192, multiple_of=4, description="Width of both; where it is not the encoder's, what the encoder "
        "gives goes through a linear layer and a norm. The encoder's if null."
    )  # fmt: skip
    heads: int | None = Field(
        None, ge=1, le=128, description="Attention heads; must divide the width. One for every 64 of it if not given."
    )
    regressor: int = Field(4, ge=1, le=64, description="Blocks of the regressor.")
    decoder: int = Field(4, ge=0, le=64, description="Blocks of the decoder.")
    layer_scale: float | None = Field(
        0.1, gt=0, le=1, description="First factor of a block's branches, learned per channel; no factor if null."
    )

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width is not None and self.heads is not None and self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self

    def shape(self, encoder_width: int) -> tuple[int, int]:
        """Return (width, heads). Raises ValueError if the given heads do not divide the encoder's width."""
        width = self.width or encoder_width
        most = max(1, width // HEAD_WIDTH)
        heads = self.heads or next(count for count in range(most, 0, -1) if width % count == 0)
        if width % heads:
            raise ValueError(f"heads ({heads}) must divide the encoder's width ({width})")
        return width, heads


class Cae(Masks):
    """Context autoencoder: the encoder sees visible patches, a regressor predicts its output for the hidden ones."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"train": RECIPE},
        "released": {
            "align_to": "lagged_copy", "neck": {"width": None}, "train": _RELEASED_RECIPE,
        },
    }  # fmt: skip
    kind: Literal["cae"]
    preset: Preset = PRESET
    ratio: float = Field(0.5, gt=0, lt=1, description="Share of the patches that is masked, rounded to whole patches.")
    blocks: BlockSpec = Field(BlockSpec(), description="How the blocks are drawn.")
    neck: Neck = Field(Neck(), description="What predicts from the encoder's output.")
    align_weight: float = Field(2.0, ge=0, le=1000, description="Factor of the alignment loss; 0 leaves it out.")
    align_to: Literal["encoder", "lagged_copy"] = Field(
        "encoder", description="Whose output on the masked patches is aligned with: the encoder's, or that of a copy "
        "which is one update behind (the release)."
    )  # fmt: skip
