"""TokenProp: decode the stem's patches back to the picture, as one more loss (Qian et al. 2022, section 6, table 16).

Nothing of the paper was released: preset paper reads its table 16 to the letter, preset default where that makes sense
for any stem. What the paper leaves open is a field each.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tokexp.spec.base import Spec

Width = Annotated[int, Field(ge=1, le=65536)]


class TokenProp(Spec):
    """Reconstruct what the stem read from its patches by a small decoder that is thrown away (Qian et al. 2022)."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}, "paper": {"layout": "channels"}}
    kind: Literal["token_prop"]
    preset: Literal["default", "paper"] = Field(
        "default", description="Where the values not written come from: what suits any stem, or the paper's table."
    )
    weight: float = Field(0.001, ge=0, le=1e6, description="Factor of this loss (lambda).")
    distance: Literal["l2", "l1", "perceptual", "contextual"] = Field(
        "l2", description="Between pixels, or between VGG-19's features of them (perceptual, contextual)."
    )
    vgg: str | None = Field(None, description="File of VGG-19's weights as torchvision names them; for the last two.")
    reduction: Literal["sum", "mean"] = Field(
        "sum", description="Over the values of an image; then the mean over images. l1 and l2 only."
    )
    layout: Literal["spatial", "channels"] = Field(
        "spatial", description="spatial: patches stand in their places and are resized to `grid`; channels: each patch "
        "becomes a map of its own, and these are stacked."
    )  # fmt: skip
    grid: int = Field(16, ge=1, le=512, description="Side of the maps that enter the decoder.")
    size: int = Field(64, ge=1, le=1024, description="Side of the reconstruction; `grid` times a power of 2.")
    rows: tuple[Width, ...] = Field(
        (), max_length=16, description="Channels of the decoder's convolutions but the last, one at least for each "
        "doubling; 256, 256 and 64 for every doubling but the first if not given."
    )  # fmt: skip
    width_factor: int = Field(1, ge=1, le=16, description="Multiplies the channels of all rows.")
    block: Literal["skip", "plain", "double"] = Field(
        "skip", description="A row: one 3 x 3 convolution with a skip connection, without one, or two with one."
    )

    @field_validator("preset", mode="before")
    @classmethod
    def _nothing_released(cls, given: Any) -> Any:
        if given == "released":
            raise ValueError("no code of TokenProp was released; write default or paper")
        return given

    @model_validator(mode="after")
    def _fits(self) -> Self:
        doublings = self.doublings()
        if doublings < 0 or self.grid << doublings != self.size:
            raise ValueError(f"size ({self.size}) must be grid ({self.grid}) times a power of 2")
        widths = self.widths()
        if len(widths) < doublings:
            raise ValueError(f"{len(widths)} rows given; {self.grid} to {self.size} are {doublings} doublings")
        if any(width % 4 for width in widths[len(widths) - doublings :]):
            raise ValueError("a row before a doubling needs a multiple of 4 channels: each 4 become one")
        if (self.vgg is not None) is not (self.distance in ("perceptual", "contextual")):
            raise ValueError("vgg, the file of weights, is needed for perceptual and contextual alone")
        return self

    def doublings(self) -> int:
        """Return how often the decoder doubles the side of its maps."""
        return (self.size // self.grid).bit_length() - 1

    def widths(self) -> tuple[int, ...]:
        """Return the channels of the rows but the last; pixel shuffles follow the last `doublings` of them."""
        rows = self.rows or (256, 256) + (64,) * max(0, self.doublings() - 1)
        return tuple(width * self.width_factor for width in rows)
