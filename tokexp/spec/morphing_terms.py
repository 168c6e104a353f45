"""Token morphing beside another objective: its weight, its presets and, where the objective has none, its target.

Sources: Kim et al. 2024 (DTM, arXiv 2401.00254), table 3: BEiT v2, MAE with CLIP, BYOL. No code of these is public.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from tokexp.spec.base import Spec, field_value
from tokexp.spec.morphing import MorphingSpec
from tokexp.spec.teachers import TargetSpec

RELEASED_MORPHING: Mapping[str, Any] = {
    "grouper": {"kind": "bipartite", "protect_first": True}, "schedule": {"last_step": "released"},
}  # fmt: skip
SHARED_NORM: Mapping[str, Any] = {"kind": "timm", "norm": "shared"}
"""DTM's release gives CLIP the pixels as the student has them normalised."""


class MorphingTerm(MorphingSpec):
    """A morphing loss that is added to that of an objective which has a target of its own."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}, "released": RELEASED_MORPHING}
    preset: Literal["paper", "released"] = Field("paper", description="Where the values not written come from.")
    weight: float = Field(1.0, gt=0, le=1000, description="Factor of the loss.")


class TargetedMorphing(MorphingTerm):
    """A morphing loss with the target whose tokens are morphed."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {}, "released": {**RELEASED_MORPHING, "target": SHARED_NORM}
    }  # fmt: skip
    target: TargetSpec = Field(description="Whose tokens are morphed and predicted.")


class DtmTerm(TargetedMorphing):
    """Let the encoder's patches also predict a target's morphed tokens, by a head of their own."""

    kind: Literal["dtm"]


def morphing_of(objective: Spec | None) -> MorphingSpec | None:
    """Return what an objective says about morphing: the objective itself, its part `dtm`, or the term `dtm`."""
    terms = [term for term in field_value(objective, "terms", ()) if isinstance(term, DtmTerm)]
    for found in (objective, field_value(objective, "dtm"), *terms):
        if isinstance(found, MorphingSpec):
            return found
    return None


def target_of(objective: Spec | None) -> TargetSpec | None:
    """Return the network that an objective learns from; None where it has none, or follows itself by nature."""
    found: TargetSpec | None = getattr(morphing_of(objective), "target", None)
    return found
