"""The `evaluate` block: what the trained models are tested on.

Sources: Hendrycks and Dietterich 2019 (corruptions and their severities); SeiT++ table 5; Qian et al. 2022
(MoTo, section 4.2) for what a stem keeps of a picture.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds
from tokexp.spec.patch_predictions import SpatialInconsistency as SpatialInconsistency
from tokexp.spec.token_prop import TokenProp
from tokexp.spec.train import TrainSpec


class Clean(Spec):
    """Top-1 and top-5 on untouched images, with every sample's prediction saved."""

    kind: Literal["clean"]
    split: Literal["test", "select"] = Field("test", description="Which images.")


class Corruption(Spec):
    """Top-1 and top-5 on corrupted images: pixels are corrupted first, then tokenised like clean ones."""

    kind: Literal["corruption"]
    name: Literal["gaussian_noise", "gaussian_blur"] = Field(description="What is done to the pixels.")
    severity: int = Field(3, ge=1, le=5, description="ImageNet-C's level, defined for 224 pixels.")
    scale_to_image: bool = Field(
        True, description="Scale the blur's sigma by the image's side over 224, so that small images stay readable."
    )
    seed: int = Field(0, ge=0, description="Seed of the noise; each image has its own draw.")
    split: Literal["test", "select"] = Field("test", description="Which images.")


class TokenSimilarity(Spec):
    """The mean cosine between the patches of an image as the trained stem gives them (MoTo, figure 2)."""

    kind: Literal["token_similarity"]
    split: Literal["test", "select"] = Field("test", description="Which images.")


_ADAM: Mapping[str, Any] = {
    "epochs": 10, "lr": 1e-3, "weight_decay": 0.0, "optimizer": {"name": "adam", "betas": (0.5, 0.999)},
    "schedule": {"name": "constant"},
}  # fmt: skip


class Reconstruction(Spec):
    """The error of a new decoder that gives pictures back from the trained stem's patches (MoTo, section 4.2)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {"decoder": {"kind": "token_prop"}, "train": _ADAM}}
    kind: Literal["reconstruction"]
    preset: Literal["paper"] = Field("paper", description="Where the values not written come from.")
    decoder: TokenProp = Field(
        TokenProp(kind="token_prop"), description="The decoder; here its loss is always the mean squared error."
    )
    train: TrainSpec = Field(TrainSpec(), description="The decoder's training phase.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the decoder's first weights and of its training.")
    split: Literal["test", "select"] = Field("test", description="Which images.")


EvaluationSpec = Annotated[
    Clean | Corruption | TokenSimilarity | Reconstruction | SpatialInconsistency, Kinds("evaluation")
]
