"""What a token store says about itself: JSON in the file, validated when it is read."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokexp.errors import DamagedError


class StoreHeader(BaseModel):
    """The header of a token store, version 1 or 2. Fields at their default are left out of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    grid: tuple[int, int] = Field(description="Rows and columns of tokens.")
    images: int = Field(ge=0, description="Images in the store.")
    codes: int = Field(ge=0, le=65_536, description="Number of codes.")
    width: int = Field(ge=0, description="Width of a code vector.")
    classes: int = Field(ge=0, le=65_536, description="Number of classes.")
    block: int = Field(ge=1, description="Images that are coded together; the last block may have fewer.")
    codec: dict[str, Any] = Field(description="The codec's kind, and what it needs to read.")
    metric: Literal["euclidean", "cosine"] = Field("euclidean", description="How a vector finds its nearest code.")
    implicit: bool = Field(False, description="Codes are computed; the file holds at most which are in use.")
    tables: bool = Field(False, description="A section behind the codebook holds the codec's tables (version 2).")
    facts: dict[str, Any] = Field(default_factory=dict, description="What else the writer wanted to keep.")

    @property
    def tokens_per_image(self) -> int:
        """Return the tokens of one image."""
        return self.grid[0] * self.grid[1]

    @property
    def num_blocks(self) -> int:
        """Return the number of blocks."""
        return math.ceil(self.images / self.block)

    def block_size(self, number: int) -> int:
        """Return how many images block `number` holds."""
        return min(self.block, self.images - number * self.block)

    def to_bytes(self) -> bytes:
        """Return the JSON text, UTF-8."""
        return self.model_dump_json(exclude_defaults=True).encode()

    @classmethod
    def from_bytes(cls, text: bytes) -> "StoreHeader":
        """Return the header that `to_bytes` wrote. Raises DamagedError for anything else."""
        try:
            header = cls.model_validate_json(text)
        except ValidationError as error:
            raise DamagedError("the header of the token store cannot be read; restore the file") from error
        if min(header.grid) < 1 or not isinstance(header.codec.get("kind"), str):
            raise DamagedError("the header of the token store makes no sense; restore the file")
        return header
