"""What objectives that predict the tokens of an image share: where those tokens come from, and the recipe.

Sources: Baraldi et al. 2023 (MaPeT), table 8, whose recipe is the same for every objective that it compares.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tokexp.spec.base import Spec, added
from tokexp.spec.terms import Terms
from tokexp.spec.train import TrainSpec

RECIPE: Mapping[str, Any] = {
    "epochs": 300, "batch_size": 2048, "lr": 1.5e-3, "warmup": "10 epochs", "weight_decay": 0.05, "clip_grad": 3.0,
    "schedule": {"min_lr": 1e-5, "warmup_lr": 1e-6, "unit": "epoch", "warmup_prefix": False},
}  # fmt: skip
"""MaPeT's pre-training: the rate moves from epoch to epoch."""


Preset = Literal["paper", "released"]
PRESET: Any = Field("paper", description="Where the values not written come from.")


class PredictsTokens(Spec):
    """An objective whose targets are indices: the tokens that the model reads, or those of the pixels it reads."""

    kind: str = Field(description="The method.")
    targets: Literal["stored", "encoded"] = Field(
        "stored", description="For a model of pixels, the tokens to predict: those of the token store, which know "
        "nothing of the augmentation, or those of the augmented pixels, by the tokenizer at every step."
    )  # fmt: skip
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth of the last block, rising linearly.")
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    terms: Terms = added((), description="Losses that are added to this one, each with its weight.")

    def predicted(self, num_patches: int) -> int:
        """Return how many of N patches are predicted, at most; at least 1 and below N where the spec fits N."""
        raise NotImplementedError
