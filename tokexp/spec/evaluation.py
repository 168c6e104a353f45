"""The `evaluate` block: what the trained models are tested on.

Sources: Hendrycks and Dietterich 2019 (corruptions and their severities); SeiT++ table 5.
"""

from typing import Annotated, Literal

from pydantic import Field

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds


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


EvaluationSpec = Annotated[Clean | Corruption, Kinds("evaluation")]
