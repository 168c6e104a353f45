"""What every `model` block says, whatever its kind: what is read, and what cuts it into patches.

Own; a model of another package extends `BackboneSpec` too.
"""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec, added
from tokexp.spec.stems import Grid, StemSpec


class BackboneSpec(Spec):
    """A network over patches. Every kind gives `stem` a default of its own."""

    KEEPS_PATCHES: ClassVar[bool] = False
    """Whether the patches stay as they are from the first block to the last, with a class token in front: so can they
    be hidden, ordered or compared one by one."""

    kind: str = Field(description="The network.")
    input: Literal["tokens", "pixels"] = Field("tokens", description="What the model reads.")
    pixel_norm: Literal["half", "imagenet", "none"] = Field(
        "half", description="What is done to pixels in [0, 1]: (x - 0.5) / 0.5, ImageNet's mean and deviation, nothing."
    )
    grid: int | None = Field(
        None, ge=1, le=512, description="Side of the token grid that the model reads; the stored grid if not given."
    )
    stem: StemSpec = Field(description="From embeddings (or pixels) to patches.")
    token_table: int | None = added(
        None, ge=1, le=8192, description="Width of a table of the model's own, one learned row per code, that is read "
        "in place of the codes; the codes as they are if not given.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _table_of_tokens(self) -> Self:
        if self.token_table is not None and self.input == "pixels":
            raise ValueError("token_table: a table of tokens needs input: tokens")
        return self

    @model_validator(mode="after")
    def _stem_fits(self) -> Self:
        reason = self.stem.misfit(self.stem_width, self.blocks)
        if reason:
            raise ValueError(f"stem {self.stem.kind}: {reason}")
        return self

    @property
    def stem_width(self) -> int:
        """Width of a patch as the stem gives it."""
        raise NotImplementedError

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        raise NotImplementedError

    def tuned(self) -> Self:
        """Return the model of the tasks that start from a pre-training of this one: the same, unless a kind differs."""
        return self

    def label(self) -> str:
        """Return kind and size in a word."""
        raise NotImplementedError

    def patch_grid(self, input_grid: Grid) -> Grid:
        """Return (rows, columns) of patches for an input of that many tokens (or pixels)."""
        return self.stem.patch_grid(input_grid)

    def body_fault(self, patches: Grid) -> tuple[str, str] | None:
        """Return the field and the reason why the blocks cannot work on a grid of patches; None where they can."""
        del patches
        return None

    def operations(self, patches: Grid) -> float:
        """Return the operations of the blocks for one image of (rows, columns) patches, a multiply and an add each."""
        raise NotImplementedError

    def weights(self, patches: Grid) -> int:
        """Return the weights, roughly: those of the blocks and positions."""
        raise NotImplementedError
