"""The `storage` block: what of the tokens is kept, and how it is written.

Source: Park et al. 2023 (SeiT), section on storage; SeiT++ table 2 (budgets).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds
from tokexp.spec.units import Budget


class PackedCodec(Spec):
    """Every index in as many bits as the number of used codes needs; any image is readable by itself."""

    kind: Literal["packed"]


class SeitCodec(Spec):
    """SeiT's released bytes: one per index below 255, two otherwise, and one gzip stream over all images."""

    kind: Literal["seit"]
    level: int = Field(9, ge=1, le=9, description="Effort of gzip.")


CodecSpec = Annotated[PackedCodec | SeitCodec, Kinds("codecs")]


class StorageSpec(Spec):
    """How much of the training set is kept as tokens. Without `budget` and `fraction`, all of it.

    Subsets are class-balanced and nested: what fits a smaller budget is part of what fits a larger one.
    """

    codec: CodecSpec = Field(PackedCodec(kind="packed"), description="How indices become bytes.")
    budget: Budget | None = Field(None, description="Most bytes, everything counted: '1.4 GiB' or '1.1 kB/image'.")
    fraction: float | None = Field(None, gt=0, le=1, description="Share of the training images that is kept.")
    seed: int = Field(0, ge=0, description="Seed of the order in which images are kept.")

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if self.budget is not None and self.fraction is not None:
            raise ValueError("give budget or fraction, not both")
        return self
