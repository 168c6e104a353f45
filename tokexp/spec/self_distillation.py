"""The `data2vec` objective: predict, from a masked image, what a moving average of the model makes of the whole one.

Sources: Baevski et al. 2022 (data2vec, arXiv 2202.03555), sections 3 and 4.1, and its release for images. Attention
dropout of the release (0.05) is not among the model's fields.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from tokexp.spec.base import Spec
from tokexp.spec.masked import BlockSpec
from tokexp.spec.terms import Terms
from tokexp.spec.train import TrainSpec

RELEASED_RATIO = 120 / 196
"""The release's script masks at most 120 of 196 patches; the paper says 60 %."""

_TRAIN: Mapping[str, Any] = {
    "epochs": 800, "batch_size": 2048, "lr": 2e-3, "warmup": "40 epochs", "weight_decay": 0.05,
}  # fmt: skip
_RELEASED_TRAIN: Mapping[str, Any] = {
    **_TRAIN, "warmup": "10 epochs", "clip_grad": 3.0, "schedule": {"min_lr": 1e-5, "warmup_lr": 1e-6},
}  # fmt: skip


class Data2vec(Spec):
    """data2vec: predict the average of the last blocks' outputs of a moving average that sees the whole image."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"train": _TRAIN},
        "released": {
            "ratio": RELEASED_RATIO, "blocks": {"exact": False}, "drop_path": 0.25, "layer": "block",
            "share_embedding": False, "norm_average": True, "train": _RELEASED_TRAIN,
        },
    }  # fmt: skip
    kind: Literal["data2vec"]
    preset: Literal["paper", "released"] = Field("paper", description="Where the values not written come from.")
    ratio: float = Field(0.6, gt=0, lt=1, description="Share of the patches that is masked, rounded to whole patches.")
    blocks: BlockSpec = Field(BlockSpec(), description="How the masked blocks are drawn.")
    top_blocks: int = Field(6, ge=1, le=128, description="How many of the last blocks are averaged.")
    layer: Literal["ffn", "block"] = Field(
        "ffn", description="What is averaged of a block: its MLP's output before it is added, or the block's own."
    )
    norm_average: bool = Field(False, description="Normalise the average once more over its channels.")
    beta: float = Field(2.0, gt=0, le=100, description="Error at which the loss turns from a square into a line.")
    decay: float = Field(0.9998, ge=0, lt=1, description="Share of the average that stays at every update.")
    share_embedding: bool = Field(
        True, description="Give the average the student's own stem, class token and positions, not averaged ones."
    )
    drop_path: float = Field(0.2, ge=0, lt=1, description="Stochastic depth of the last block, rising linearly.")
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    terms: Terms = Field((), description="Losses that are added to this one, each with its weight.")

    def predicted(self, num_patches: int) -> int:
        """Return how many of N patches are masked, at most."""
        return min(max(1, round(num_patches * self.ratio)), num_patches - 1)
