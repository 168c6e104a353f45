"""The `objective` block: what the pre-training phase learns from.

Sources: SeiT++ section 3.2 and its released MTM (a form of MAGE, Li et al. 2023); SeiT for the supervised recipe.
Those that predict tokens in other ways are in `masked` and `permuted`.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec, added
from tokexp.spec.bootstrap import Byol
from tokexp.spec.context_autoencoding import Cae
from tokexp.spec.distill import Dtm
from tokexp.spec.extensions import Kinds
from tokexp.spec.masked import Beit, Mim
from tokexp.spec.masked_autoencoding import Mae
from tokexp.spec.permuted import Mapet, Pim
from tokexp.spec.self_distillation import Data2vec
from tokexp.spec.terms import Terms
from tokexp.spec.train import TrainSpec

_MTM_TRAIN = {
    "epochs": 400, "batch_size": 4096, "lr": 1.5e-4, "lr_scale": "linear_256", "warmup": 0.1, "weight_decay": 0.05,
    "optimizer": {"betas": (0.9, 0.95)},
}  # fmt: skip
_SEIT_TRAIN = {"epochs": 300, "batch_size": 1024, "lr": 7.5e-4, "lr_scale": "linear_512", "weight_decay": 0.1,
               "warmup": "5 epochs"}  # fmt: skip
_SEIT_SCHEDULE = {"min_lr": 1e-5, "warmup_lr": 1e-6, "unit": "epoch_lagged", "warmup_prefix": False}
SUPERVISED_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {"train": _SEIT_TRAIN},
    "released": {"train": {**_SEIT_TRAIN, "schedule": _SEIT_SCHEDULE}},
}
"""SeiT's recipe as printed (appendix, table B.1) and as its first release runs it."""


class Supervised(Spec):
    """Class labels as the pre-training signal: soft-target cross-entropy with label smoothing (SeiT)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = SUPERVISED_PRESETS
    kind: Literal["supervised"]
    preset: Literal["paper", "released"] = Field("paper", description="Where the values not written come from.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target spread over all classes.")
    drop_path: float = Field(0.1, ge=0, lt=1, description="Stochastic depth of the last block, rising linearly.")
    head_std: float = Field(0.02, ge=0, description="Deviation of the classifier's first weights.")
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    terms: Terms = added((), description="Losses that are added to this one, each with its weight.")


class MaskSpec(Spec):
    """How many patches are masked; one ratio per micro-batch, from a truncated normal (MAGE)."""

    scheme: Literal["mae", "mage"] = Field(
        "mae", description="mae: the encoder sees visible patches only; mage: a fixed share is dropped, the rest of "
        "the masked patches stay in the encoder as mask vectors."
    )  # fmt: skip
    mean: float = Field(0.45, description="Mean of the normal before truncation.")
    std: float = Field(0.25, gt=0, description="Deviation of the normal before truncation.")
    low: float = Field(0.4, ge=0, le=1, description="Smallest ratio.")
    high: float = Field(1.0, ge=0, le=1, description="Largest ratio.")
    drop: float = Field(0.4, gt=0, lt=1, description="Share that scheme mage drops; at most `low`.")
    visible: int = Field(1, ge=1, description="Patches that scheme mae always keeps visible.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high})")
        if self.scheme == "mage" and self.drop > self.low:
            raise ValueError(f"drop ({self.drop}) must not exceed low ({self.low}): dropped patches are masked ones")
        return self


class DecoderSpec(Spec):
    """MTM's decoder: a few transformer blocks, narrower than the encoder."""

    width: int | None = Field(None, ge=8, description="Width; two thirds of the encoder's if not given.")
    depth: int = Field(4, ge=0, le=64, description="Number of blocks.")
    heads: int | None = Field(None, ge=1, description="Heads; one for every 32 of the width if not given.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout of the MLP, projection and attention.")
    fill: Literal["learned", "cls"] = Field("learned", description="What stands at masked places: a learned vector, "
                                            "or the encoded class token.")  # fmt: skip


class Mtm(Spec):
    """Masked token modelling: predict the indices of masked patches, four per patch (SeiT++ section 3.2)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"train": {**_MTM_TRAIN, "clip_grad": 3.0}},
        "released": {
            "input": "learned", "label_smoothing": 0.0, "mask": {"scheme": "mage"}, "decoder": {"fill": "cls"},
            "train": _MTM_TRAIN,
        },
    }  # fmt: skip
    kind: Literal["mtm"]
    preset: Literal["paper", "released"] = Field("paper", description="Where the values not written come from.")
    input: Literal["codebook", "learned"] = Field(
        "codebook", description="What embeds a token: its codebook vector, or an own table of the model."
    )
    mask: MaskSpec = Field(MaskSpec(), description="Which patches are masked.")
    decoder: DecoderSpec = Field(DecoderSpec(), description="What predicts from the encoder's output.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Of the cross-entropy over codes.")
    input_dropout: float = Field(0.1, ge=0, lt=1, description="Dropout on token embeddings of an own table.")
    train: TrainSpec = Field(TrainSpec(), description="The training phase.")
    terms: Terms = added((), description="Losses that are added to this one, each with its weight.")


ObjectiveSpec = Annotated[
    Supervised | Mtm | Mim | Beit | Pim | Mapet | Cae | Dtm | Mae | Byol | Data2vec, Kinds("objectives")
]
