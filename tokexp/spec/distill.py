"""Token morphing as an objective of its own: `dtm`.

Sources: Kim et al. 2024 (DTM, arXiv 2401.00254), table 12, and its release naver-ai/dtm. Where text and release differ,
each difference is a field. The text's learning rate, 1.5e-4, cannot be what was run; both presets have the release's.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from tokexp.spec.masked import RELEASED_RATIO, BlockSpec
from tokexp.spec.morphing import MorphingSpec
from tokexp.spec.morphing_terms import RELEASED_MORPHING, SHARED_NORM
from tokexp.spec.teachers import TargetSpec
from tokexp.spec.terms import Terms
from tokexp.spec.train import TrainSpec

_TRAIN: Mapping[str, Any] = {
    "epochs": 300, "batch_size": 1024, "lr": 1.06e-3, "warmup": "10 epochs", "weight_decay": 0.05, "clip_grad": 3.0,
    "optimizer": {"betas": (0.9, 0.98)}, "schedule": {"min_lr": 1e-5, "warmup_prefix": False},
}  # fmt: skip


class Dtm(MorphingSpec):
    """Dynamic token morphing: the masked student predicts morphed tokens of a target that sees the whole image."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"train": _TRAIN},
        "released": {
            **RELEASED_MORPHING, "ratio": RELEASED_RATIO, "drop_path": 0.1,
            "target": SHARED_NORM, "train": {**_TRAIN, "warmup": "5 epochs"},
        },
    }  # fmt: skip
    kind: Literal["dtm"]
    preset: Literal["paper", "released"] = Field("paper", description="Where the values not written come from.")
    target: TargetSpec = Field(description="Whose tokens are morphed and predicted.")
    ratio: float = Field(0.4, gt=0, lt=1, description="Share of the patches that is masked, rounded to whole patches.")
    blocks: BlockSpec = Field(BlockSpec(), description="How the masked blocks are drawn; the count is exact.")
    drop_path: float = Field(0.0, ge=0, lt=1, description="Stochastic depth of the last block, rising linearly.")
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    terms: Terms = Field((), description="Losses that are added to this one, each with its weight.")

    def predicted(self, num_patches: int) -> int:
        """Return how many of N patches are masked."""
        return min(max(1, round(num_patches * self.ratio)), num_patches - 1)
