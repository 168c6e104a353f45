"""The tokenizer `dct`: an image as the quantised cosine coefficients of its blocks, as in a JPEG.

Sources: SeiT++ (Kim et al. 2024), table 8, which says only that 8 x 8 patches are transformed, quantised and read by
the model; ITU-T T.81 (JPEG) for the rest. What the paper leaves open is a field here.
"""

from typing import Annotated, Literal

from pydantic import Field

from tokexp.spec.base import Spec

Shape = tuple[int, int, int]
Kept = Annotated[int, Field(ge=1, le=1024)]


class Dct(Spec):
    """Quantised cosine coefficients per block, luma and chroma; nothing is learned and no codebook is stored."""

    kind: Literal["dct"]
    block: int = Field(8, ge=2, le=32, description="Side of a block in pixels; other sides than JPEG's 8 read its "
                       "tables at the same frequencies.")  # fmt: skip
    quality: int = Field(50, ge=1, le=100, description="Of the quantisation tables, as libjpeg scales them.")
    coefficients: Kept | None = Field(
        None, description="Coefficients kept of a block, the first in zig-zag order; all if not given."
    )
    chroma: Literal["full", "half", "none"] = Field(
        "full", description="Colour at the resolution of brightness, at half of it (4:2:0), or left out."
    )
    chroma_coefficients: Kept | None = Field(
        None, description="The same for each of the two colour channels; as many as of brightness if not given."
    )
    levels: int = Field(
        2048, ge=4, le=65536, multiple_of=2,
        description="Values that a coefficient can take, half of them below zero; beyond them it is clipped.",
    )  # fmt: skip
    scale: Literal["deviation", "pixel"] = Field(
        "deviation", description="What the model reads: coefficients over their standard deviation in the training "
        "images, or over 255."
    )  # fmt: skip

    def blocks(self, image_shape: Shape) -> tuple[int, int]:
        """Return (rows, columns) of blocks, which are the places that a model sees."""
        return image_shape[1] // self.block, image_shape[2] // self.block

    def kept(self, image_shape: Shape) -> tuple[int, int]:
        """Return how many coefficients are kept of a block: of brightness, and of each colour channel."""
        luma = self.coefficients or self.block**2
        colour = image_shape[0] == 3 and self.chroma != "none"
        return luma, (self.chroma_coefficients or luma) if colour else 0

    def channels(self, image_shape: Shape) -> int:
        """Return the number of coefficients that a model reads at every place."""
        luma, chroma = self.kept(image_shape)
        return luma + 2 * chroma

    def grid(self, image_shape: Shape) -> tuple[int, int]:
        """Return (rows, columns) of the stored numbers: one map per coefficient, one below the other.

        Those of half resolution stand in pairs, the two colours side by side.
        """
        rows, columns = self.blocks(image_shape)
        luma, chroma = self.kept(image_shape)
        return rows * luma + (rows // 2 if self.chroma == "half" else 2 * rows) * chroma, columns

    def code_width(self, image_shape: Shape) -> int:
        """Return the width of a stored code: a level is one number."""
        del image_shape
        return 1

    def num_codes(self) -> int:
        """Return the number of levels."""
        return self.levels

    def fault(self, image_shape: Shape) -> tuple[str, str] | None:
        """Return the field that does not go with the images or the block, and why; None where all do."""
        most, colour = self.block**2, image_shape[0] == 3 and self.chroma != "none"
        for field in ("coefficients", "chroma_coefficients"):
            given = getattr(self, field)
            if given is not None and given > most:
                return field, f"{given} given; a block of {self.block} x {self.block} has {most}"
        if self.chroma_coefficients is not None and not colour:
            why = "these images have none" if image_shape[0] != 3 else "chroma: none leaves it out"
            return "chroma_coefficients", f"{self.chroma_coefficients} given of colour, but {why}; leave it out"
        if colour and self.chroma == "half" and any(side % 2 for side in self.blocks(image_shape)):
            rows, columns = self.blocks(image_shape)
            return "chroma", f"half needs even numbers of blocks; these are {rows} x {columns}"
        return None
