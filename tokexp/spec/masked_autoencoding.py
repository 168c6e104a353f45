"""The `mae` objective: masked autoencoding, of pixels or of stored tokens' embeddings.

Sources: He et al. 2022 (MAE), section 3, appendix A.1 and its release; Kim et al. 2024 (DTM), table 3, for a teacher's
tokens in place of pixels.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.morphing_terms import TargetedMorphing
from tokexp.spec.terms import Terms
from tokexp.spec.train import TrainSpec

_TRAIN: Mapping[str, Any] = {
    "epochs": 800, "batch_size": 4096, "lr": 1.5e-4, "lr_scale": "linear_256", "warmup": "40 epochs",
    "weight_decay": 0.05, "optimizer": {"betas": (0.9, 0.95)}, "schedule": {"warmup_prefix": False},
}  # fmt: skip


class MaeDecoder(Spec):
    """The light decoder: a few transformer blocks over all patches, narrower than the encoder."""

    width: int = Field(512, ge=8, le=8192, multiple_of=4, description="Width.")
    depth: int = Field(8, ge=0, le=64, description="Number of blocks.")
    heads: int = Field(16, ge=1, le=128, description="Attention heads; must divide the width.")

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self


class Mae(Spec):
    """Masked autoencoding: the encoder sees a few patches, a light decoder predicts what is in the others."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"train": _TRAIN}}
    kind: Literal["mae"]
    preset: Literal["paper"] = Field("paper", description="Where the values not written come from.")
    ratio: float = Field(0.75, gt=0, lt=1, description="Share of the patches that is masked, rounded down.")
    decoder: MaeDecoder = Field(MaeDecoder(), description="What predicts from the encoder's output.")
    standardise: bool = Field(True, description="Give what is predicted mean 0 and deviation 1 within every patch.")
    reconstruct: bool = Field(
        True, description="Predict the content of masked patches; without it there is a teacher's loss alone."
    )
    dtm: TargetedMorphing | None = Field(
        None, description="Predict a target's morphed tokens from the decoder's output at every patch."
    )
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    terms: Terms = Field((), description="Losses that are added to this one, each with its weight.")

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if not self.reconstruct and self.dtm is None:
            raise ValueError("reconstruct: false leaves nothing to learn; write dtm with a target")
        return self

    def predicted(self, num_patches: int) -> int:
        """Return how many of N patches are masked; MAE keeps floor(N (1 - ratio)) visible, and at least one."""
        return num_patches - max(1, int(num_patches * (1 - self.ratio) + 1e-9))
