"""What a stage is told of the network that it learns from, beside what its objective says."""

from typing import Literal

from pydantic import Field

from tokexp.spec.base import Spec
from tokexp.spec.models import ModelSpec


class TargetSource(Spec):
    """A trained encoder, which comes as an input, or a file of weights."""

    role: Literal["pretrain", "downstream"] | None = Field(None, description="Kind of the stage that trained it: the "
                                                            "input that holds it.")  # fmt: skip
    model: ModelSpec | None = Field(None, description="The encoder's backbone.")
    embed: Literal["codebook", "learned"] = Field("codebook", description="What embeds its tokens.")
    weights: str | None = Field(None, description="Digest of the file's content, for weights from a file.")
