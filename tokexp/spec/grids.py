"""Sides of images, of stored tokens and of patches, as an experiment's blocks together decide them."""

from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.base import Spec
from tokexp.spec.coefficients import Dct
from tokexp.spec.data import GivenTokens
from tokexp.spec.experiment import Experiment
from tokexp.spec.published_tokenizers import FrozenTokenizer
from tokexp.spec.tokenizers import PatchKMeans, VqVae


def pixels_per_token(tokenizer: Spec | None) -> tuple[str, int]:
    """Return the name and value of the field that says how many pixels a token spans; 1 where none does."""
    if isinstance(tokenizer, PatchKMeans):
        return "patch_size", tokenizer.patch_size
    if isinstance(tokenizer, Dct):
        return "block", tokenizer.block
    return ("stride", tokenizer.stride) if isinstance(tokenizer, VqVae) else ("", 1)


def image_side(spec: Experiment) -> int:
    """Return the side of the images in pixels; 0 where it is not known."""
    if isinstance(spec.data, GivenTokens):
        return 0
    shape: tuple[int, int, int] = spec.data.image_shape()
    return shape[1]


def stored_sides(spec: Experiment) -> tuple[int, int]:
    """Return the rows and columns of the stored tokens, of coefficients' blocks; (0, 0) where they are not known."""
    if isinstance(spec.data, GivenTokens):
        given = spec.data.token_shape()
        return (0, 0) if given is None else given.grid
    side, tokenizer = image_side(spec), spec.tokenizer
    if tokenizer is None or not side or side % pixels_per_token(tokenizer)[1]:
        return 0, 0
    if isinstance(tokenizer, FrozenTokenizer) and tokenizer.fault(spec.data.image_shape()):
        return 0, 0
    if isinstance(tokenizer, Dct):
        return tokenizer.blocks(spec.data.image_shape())
    grid: tuple[int, int] = tokenizer.grid(spec.data.image_shape())
    return grid


def read_sides(spec: Experiment) -> tuple[int, int]:
    """Return the rows and columns of what the model reads, in tokens or pixels; (0, 0) where they are not known."""
    if spec.model.input == "pixels":
        return image_side(spec), image_side(spec)
    return stored_sides(spec) if spec.model.grid is None else (spec.model.grid, spec.model.grid)


def model_sides(spec: Experiment) -> tuple[int, int]:
    """Return the same, and (0, 0) too where the stem misfits."""
    sides = read_sides(spec)
    return sides if all(sides) and not stem_fault(spec.model, sides) else (0, 0)


def stem_fault(model: BackboneSpec, sides: tuple[int, int]) -> str:
    """Return why the model's stem cannot cut a grid of these sides into patches; nothing where it can."""
    return next((fault for side in sides if (fault := model.stem.fault(side))), "") or model.stem.grid_fault(sides)


def overlapping(model: BackboneSpec) -> bool:
    """Return whether the stem's patches overlap."""
    return model.stem.overlaps
