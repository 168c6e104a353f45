"""The `storage` block: what of the tokens is kept, and how it is written.

Source: Park et al. 2023 (SeiT), section on storage; SeiT++ table 2 (budgets).
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec, added
from tokexp.spec.extensions import Kinds
from tokexp.spec.reducing import ReduceSpec
from tokexp.spec.units import Budget


class PackedCodec(Spec):
    """Every index in as many bits as the number of used codes needs; any image is readable by itself."""

    kind: Literal["packed"]


class SeitCodec(Spec):
    """SeiT's released bytes: one per index below 255, two otherwise, and one gzip stream over all images."""

    kind: Literal["seit"]
    level: int = Field(9, ge=1, le=9, description="Effort of gzip.")


class ZstdCodec(Spec):
    """zstd over runs of images, with a dictionary trained on them where it pays."""

    kind: Literal["zstd"]
    level: int = Field(19, ge=1, le=22, description="Effort of zstd.")
    dictionary: int = Field(112_640, ge=0, le=1 << 20, description="Most bytes of the dictionary; 0: none.")


class Rans0Codec(Spec):
    """Every index in as many bits as its frequency asks for (order-0 rANS)."""

    kind: Literal["rans0"]


class RansContextCodec(Spec):
    """Every index in as many bits as its frequency beside its neighbours asks for; whole numbers alone."""

    kind: Literal["rans_context"]
    level: Literal["fast", "best"] = Field(
        "fast", description="fast: by the left and upper neighbour; best: by four, smaller and slower to read."
    )


CodecSpec = Annotated[PackedCodec | SeitCodec | ZstdCodec | Rans0Codec | RansContextCodec, Kinds("codecs")]


class StorageSpec(Spec):
    """How much of the training set is kept as tokens. Without `budget` and `fraction`, all of it.

    Subsets are class-balanced and nested: what fits a smaller budget is part of what fits a larger one.
    """

    codec: CodecSpec = Field(PackedCodec(kind="packed"), description="How indices become bytes.")
    budget: Budget | None = Field(None, description="Most bytes, everything counted: '1.4 GiB' or '1.1 kB/image'.")
    fraction: float | None = Field(None, gt=0, le=1, description="Share of the training images that is kept.")
    seed: int = Field(0, ge=0, description="Seed of the order in which images are kept.")
    reduce: ReduceSpec | None = added(None, description="For a model of pixels: what is stored of the images.")

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if self.budget is not None and self.fraction is not None:
            raise ValueError("give budget or fraction, not both")
        return self

    def slow_to_fit(self) -> bool:
        """Return whether every size that is tried for the budget takes long, as its codec has much to fit and code."""
        return self.budget is not None and isinstance(self.codec, RansContextCodec)
