"""Sides of images, of stored tokens and of patches, as an experiment's blocks together decide them."""

from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.base import Spec
from tokexp.spec.data import SeitReleaseData
from tokexp.spec.experiment import Experiment
from tokexp.spec.published_tokenizers import FrozenTokenizer
from tokexp.spec.tokenizers import PatchKMeans, VqVae


def pixels_per_token(tokenizer: Spec | None) -> tuple[str, int]:
    """Return the name and value of the field that says how many pixels a token spans; 1 where none does."""
    if isinstance(tokenizer, PatchKMeans):
        return "patch_size", tokenizer.patch_size
    return ("stride", tokenizer.stride) if isinstance(tokenizer, VqVae) else ("", 1)


def image_side(spec: Experiment) -> int:
    """Return the side of the images in pixels; 0 where it is not known."""
    if isinstance(spec.data, SeitReleaseData):
        return 0
    shape: tuple[int, int, int] = spec.data.image_shape()
    return shape[1]


def stored_grid(spec: Experiment) -> int:
    """Return the side of the stored token grid; 0 where it is not known."""
    if isinstance(spec.data, SeitReleaseData):
        return spec.data.grid
    side, tokenizer = image_side(spec), spec.tokenizer
    if tokenizer is None or not side or side % pixels_per_token(tokenizer)[1]:
        return 0
    if isinstance(tokenizer, FrozenTokenizer) and tokenizer.fault(spec.data.image_shape()):
        return 0
    grid: tuple[int, int] = tokenizer.grid(spec.data.image_shape())
    return grid[0]


def model_side(spec: Experiment) -> int:
    """Return the side of what the model reads, in tokens or pixels; 0 where that is unknown or the stem misfits."""
    side = image_side(spec) if spec.model.input == "pixels" else spec.model.grid or stored_grid(spec)
    return side if side and not stem_fault(spec.model, side) else 0


def stem_fault(model: BackboneSpec, side: int) -> str:
    """Return why the model's stem cannot cut a square of this side into patches; nothing where it can."""
    return model.stem.fault(side)


def overlapping(model: BackboneSpec) -> bool:
    """Return whether the stem's patches overlap."""
    return model.stem.overlaps
