"""`storage.reduce`: policies that store fewer or smaller images instead of tokens, so that baselines are specs too.

Sources: Park et al. 2023 (SeiT), table B.5 (uniform and C-score sampling, resolution, JPEG quality); Jiang et al. 2021
(C-scores); Wang et al. 2018 (distilled sets). A parameter that is left out is solved for from `storage.budget`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec
from tokexp.spec.extensions import Kinds

FROM_FILE = ("c_score", "per_class")
"""Ways of selecting that need a file."""


class FractionReduce(Spec):
    """A part of the training images, each stored as it is: the bytes of its file, else a lossless PNG."""

    kind: Literal["fraction"]
    share: float | None = Field(
        None, gt=0, le=1, description="Share of the training images; the largest that fits the budget if not given."
    )
    select: Literal["class_balanced", "uniform", "c_score", "per_class"] = Field(
        "class_balanced",
        description="Classes in turn; at random over all; by the scores in `file`; the images named in `file` alone.",
    )
    file: str | None = Field(
        None, min_length=1, description="c_score: lines `id,score` (or .npz with scores); per_class: `class,id`."
    )
    keep: Literal["highest", "lowest"] = Field("highest", description="c_score: the end of the scores that is kept.")
    balanced: bool = Field(False, description="c_score: classes take turns, instead of one ranking over all.")

    @model_validator(mode="after")
    def _file_fits(self) -> Self:
        if self.select in FROM_FILE and self.file is None:
            raise ValueError(f"select: {self.select} needs a file")
        if self.select not in FROM_FILE and self.file is not None:
            raise ValueError(f"select: {self.select} reads no file; leave it out, or select c_score or per_class")
        if self.select != "c_score" and (self.balanced or self.keep != "highest"):
            raise ValueError(f"keep and balanced are for select: c_score; {self.select} given")
        return self


class JpegReduce(Spec):
    """Every image as a JPEG of one quality, at the size of its file."""

    kind: Literal["jpeg"]
    quality: int | None = Field(
        None, ge=1, le=95, description="libjpeg's quality; the largest that fits the budget if not given."
    )
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"] = Field("4:2:0", description="Resolution of the colour planes.")


class ResizeReduce(Spec):
    """Every image at a lower resolution, brought back to the data's size when it is read."""

    kind: Literal["resize"]
    factor: float | None = Field(None, gt=0, le=1, description="Factor on both sides of every image.")
    side: int | None = Field(
        None, ge=1, le=4096, description="Shorter side of every stored image in pixels; none is enlarged. The largest "
        "that fits the budget, up to the data's size, if neither is given."
    )  # fmt: skip
    quality: int | None = Field(None, ge=1, le=95, description="JPEG quality of the small images; PNG if not given.")
    filter: Literal["bicubic", "lanczos", "box"] = Field("bicubic", description="Pillow's filter for reducing.")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.factor is not None and self.side is not None:
            raise ValueError("give factor or side, not both")
        return self


class DistilledReduce(Spec):
    """A set of made images that stands for the training images, with soft labels where it has them.

    The file is .npz or .safetensors with `images` (N, channels, height, width), uint8 or floats in [0, 1], and
    `labels` (N,), `soft_labels` (N, classes) or both.
    """

    kind: Literal["distilled"]
    file: str = Field(min_length=1, description="The file.")
    pixels: Literal["uint8", "float16", "float32"] = Field(
        "uint8", description="How pixels are stored: 8 bits in a PNG, or raw floats."
    )
    soft_labels: Literal["float16", "float32", "none"] = Field(
        "float16", description="How soft labels are stored; none leaves them out."
    )


ReduceSpec = Annotated[FractionReduce | JpegReduce | ResizeReduce | DistilledReduce, Kinds("reducing")]

SOLVED = {"fraction": ("share",), "jpeg": ("quality",), "resize": ("factor", "side")}
"""Per kind, the fields of the parameter that a budget decides."""
