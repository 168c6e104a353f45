"""The `byol` objective: two views of an image, one of which predicts the other's features.

Sources: Grill et al. 2020 (BYOL), sections 3.1 to 3.3; Kim et al. 2024 (DTM), table 3, for morphed patches beside them.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from tokexp.spec.augment import Step
from tokexp.spec.base import Spec
from tokexp.spec.morphing_terms import MorphingTerm
from tokexp.spec.terms import Terms
from tokexp.spec.train import TrainSpec

_TRAIN: Mapping[str, Any] = {
    "epochs": 300, "batch_size": 4096, "lr": 0.2, "lr_scale": "linear_256", "warmup": "10 epochs",
    "weight_decay": 1.5e-6, "optimizer": {"name": "lars"}, "schedule": {"warmup_prefix": False},
}  # fmt: skip


class Byol(Spec):
    """Bootstrap your own latent: predict a moving average's features of another view of the image."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"train": _TRAIN}}
    kind: Literal["byol"]
    preset: Literal["paper"] = Field("paper", description="Where the values not written come from.")
    views: tuple[Step, ...] = Field(
        (), description="Policy that makes each of the two views from what augment.pretrain gives; both draw anew."
    )
    decay: float = Field(0.996, ge=0, lt=1, description="Share of the average that stays at every update.")
    hidden: int = Field(4096, ge=2, le=65536, description="Width inside the projector and the predictor.")
    features: int = Field(256, ge=2, le=65536, description="Width of what is compared.")
    drop_path: float = Field(0.0, ge=0, lt=1, description="Stochastic depth of the last block, rising linearly.")
    dtm: MorphingTerm | None = Field(
        None, description="Predict the average's morphed patches of the other view as well; views may not move them."
    )
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    terms: Terms = Field((), description="Losses that are added to this one, each with its weight.")
