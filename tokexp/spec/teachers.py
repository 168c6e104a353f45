"""The `target` of methods that learn from another network's tokens: where that network comes from.

Sources: Kim et al. 2024 (DTM) for CLIP's image tower; He et al. 2020 (MoCo) and Grill et al. 2020 (BYOL) for the moving
average of the student; timm for the networks.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec, added, neutral
from tokexp.spec.extensions import Kinds

CLIP_TOWER = "vit_base_patch16_clip_quickgelu_224"
"""OpenAI's CLIP ViT-B/16 as timm has it. The variant matters: these weights were trained with QuickGELU."""


class TimmTarget(Spec):
    """A frozen vision transformer of timm, such as CLIP's image tower with its projection. It reads pixels."""

    kind: Literal["timm"]
    model: str = Field(CLIP_TOWER, min_length=1, description="timm's name of the architecture, without the tag.")
    weights: str | None = neutral(
        None, description="File of its weights: safetensors, or a torch file of tensors. Its content enters the key."
    )
    random: bool = Field(False, description="Leave its weights random: for tests; such a target teaches nothing.")
    project: bool = Field(
        True, description="Apply the model's last linear layer to every token (CLIP's projection), if it has one."
    )
    norm: Literal["own", "shared"] = Field(
        "own", description="Normalisation of its pixels: the model's own, or that of the student (DTM's release)."
    )
    patch_size: int | None = Field(None, ge=1, le=64, description="Side of its patches; the model's if not given.")

    def patch_side(self) -> int | None:
        """Return the side of its patches in pixels: as given, or as timm's names say it; None where they do not."""
        named = re.search(r"patch(\d+)", self.model)
        return self.patch_size or (int(named[1]) if named else None)

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if (self.weights is None) != self.random:
            raise ValueError("give weights (a file), or random: true for a test; one of the two")
        return self


class MomentumTarget(Spec):
    """A moving average of the student's own weights, which sees the whole image."""

    kind: Literal["momentum"]
    decay: float = Field(0.996, ge=0, lt=1, description="Share of the average that stays at every update.")


class Origin(Spec):
    """A stage of this experiment or of another one."""

    experiment: str | None = Field(
        None, min_length=1, description="The other experiment's file, seen from where tokexp is started; this one if "
        "not given."
    )  # fmt: skip
    stage: str = Field(min_length=1, description="Name of the stage: pretrain, or that of a task.")
    seed: int | None = Field(None, ge=0, description="Its seed; the first of that experiment if not given.")
    set: dict[str, Any] = added({}, description="Path to value: laid over the other experiment, as by --set.")

    @model_validator(mode="after")
    def _of_another(self) -> Self:
        if self.set and self.experiment is None:
            raise ValueError("set is for another experiment; this one has its values above")
        return self


class TeacherTarget(Spec):
    """The encoder that a stage of this or another experiment trained, frozen."""

    kind: Literal["teacher"]
    origin: Origin = Field(alias="from", description="The stage that trains it; the planner puts it before this one.")


TargetSpec = Annotated[TimmTarget | MomentumTarget | TeacherTarget, Kinds("targets")]
