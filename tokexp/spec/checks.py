"""Combinations that cannot work, each found from the spec alone and reported with its reason.

What is checked here would otherwise fail in the middle of a job, or run and mean nothing.
"""

from collections.abc import Iterator
from math import prod

from tokexp.spec.base import Spec
from tokexp.spec.check_training import check_batches, check_policies, check_resources
from tokexp.spec.data import SIZES, SeitReleaseData, TorchvisionData
from tokexp.spec.evaluation import Corruption
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.models import Conv2x2Stem, Conv4x4Stem, PatchifyStem, VitSpec
from tokexp.spec.objectives import Mtm
from tokexp.spec.storage import SeitCodec
from tokexp.spec.tokenizers import FsqQuantizer, PatchKMeans, VqVae

MOST_CODES_SEIT = 510
"""Largest codebook that SeiT's bytes hold: a second byte of 255 cannot be followed by a third."""

MOST_CODES = 65536
"""Largest codebook that a token store holds (16 bits for an index)."""

FEWEST_PATCHES = 4
"""Patches below which masking leaves nothing to predict from."""

RESERVED_NAMES = ("tokenizer", "tokens", "adapt", "pretrain")
"""Names of stages, which a task therefore cannot have."""

_DATA, _TOKENIZER, _MODEL, _STEM = ("data",), ("tokenizer",), ("model",), ("model", "stem")
_INPUT, _GRID = ("model", "input"), ("model", "grid")


def check(experiment: Experiment) -> list[Finding]:
    """Return all impossible combinations of a valid experiment."""
    findings = [*_check_input(experiment), *_check_data(experiment), *_check_tokenizer(experiment)]
    findings += [*_check_model(experiment), *_check_objective(experiment), *_check_parts(experiment)]
    findings += [*check_policies(experiment), *check_batches(experiment), *check_resources(experiment)]
    return findings


def _check_input(spec: Experiment) -> Iterator[Finding]:
    released = isinstance(spec.data, SeitReleaseData)
    because = (_TOKENIZER, _INPUT, ("data", "kind"))
    if released and spec.tokenizer is not None:
        yield Finding(_TOKENIZER, "data of the kind seit_release are tokens already; leave the tokenizer out", because)
    if spec.model.input == "tokens":
        if not released and spec.tokenizer is None:
            message = "missing; a model that reads tokens needs one (or write model.input: pixels)"
            yield Finding(_TOKENIZER, message, because)
        return
    if isinstance(spec.data, SeitReleaseData):
        yield Finding(_INPUT, "data of the kind seit_release have no pixels; input: tokens is needed", because)
    elif spec.model.pixel_norm == "imagenet" and spec.data.image_shape()[0] != 3:
        path = ("model", "pixel_norm")
        yield Finding(path, "ImageNet's statistics are for 3 channels; these images have 1", (path, ("data",)))
    for name in ("budget", "fraction"):
        if getattr(spec.storage, name) is not None:
            path = ("storage", name)
            yield Finding(path, "only stored tokens can be cut; this model reads pixels", (path, _INPUT))
    if spec.model.grid is not None:
        yield Finding(_GRID, "the side of a token grid; this model reads pixels", (_GRID, _INPUT))


def _check_data(spec: Experiment) -> Iterator[Finding]:
    data = spec.data
    if isinstance(data, TorchvisionData) and data.name not in SIZES and data.image_size is None:
        path = ("data", "image_size")
        yield Finding(path, f"missing; the images of {data.name} differ in size", (path, ("data", "name")))


def _check_tokenizer(spec: Experiment) -> Iterator[Finding]:
    side, (name, step) = image_side(spec), _pixels_per_token(spec.tokenizer)
    if side % step:
        where = ("tokenizer", name)
        yield Finding(where, f"{step} given; it must divide the images' side, {side}", (where, _DATA))
    codes, path = codes_of(spec)
    if codes > MOST_CODES:
        yield Finding(path, f"{codes} codes; a token store holds at most {MOST_CODES}", (path,))
    elif codes > MOST_CODES_SEIT and isinstance(spec.storage.codec, SeitCodec):
        message = f"{codes} codes; the codec seit holds at most {MOST_CODES_SEIT} (packed holds any)"
        yield Finding(path, message, (path, ("storage", "codec", "kind"), _INPUT))


def _pixels_per_token(tokenizer: Spec | None) -> tuple[str, int]:
    """Return the name and value of the field that says how many pixels a token spans; 1 where none does."""
    if isinstance(tokenizer, PatchKMeans):
        return "patch_size", tokenizer.patch_size
    return ("stride", tokenizer.stride) if isinstance(tokenizer, VqVae) else ("", 1)


def codes_of(spec: Experiment) -> tuple[int, tuple[str, ...]]:
    """Return the number of codes and the path of the field that decides it."""
    tokenizer = spec.tokenizer
    if isinstance(tokenizer, PatchKMeans):
        return tokenizer.codebook_size, ("tokenizer", "codebook_size")
    quantizer = tokenizer.quantizer if isinstance(tokenizer, VqVae) else None
    if isinstance(quantizer, FsqQuantizer):
        return prod(quantizer.levels), ("tokenizer", "quantizer", "levels")
    if quantizer is not None:
        return quantizer.codebook_size, ("tokenizer", "quantizer", "codebook_size")
    return 0, _TOKENIZER


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
    if tokenizer is None or not side or side % _pixels_per_token(tokenizer)[1]:
        return 0
    grid: tuple[int, int] = tokenizer.grid(spec.data.image_shape())
    return grid[0]


def _check_model(spec: Experiment) -> Iterator[Finding]:
    model = spec.model
    stored = stored_grid(spec) if model.input == "tokens" else 0
    base = (_DATA, _TOKENIZER, _INPUT)
    if model.grid is not None and stored and model.grid > stored:
        message = f"{model.grid} given; the stored grid is {stored} x {stored}, and a model reads at most that"
        yield Finding(_GRID, message, (*base, _GRID))
        return
    side = image_side(spec) if model.input == "pixels" else model.grid or stored
    if not side:
        return
    unit = "pixels" if model.input == "pixels" else "tokens"
    reason = _stem_fault(model, side)
    if reason:
        message = f"{model.stem.kind} cannot cut {side} x {side} {unit} into patches: {reason}"
        yield Finding(_STEM, message, (*base, _GRID, _STEM))


def _stem_fault(model: VitSpec, side: int) -> str:
    stem = model.stem
    if isinstance(stem, PatchifyStem):
        return f"patch_size {stem.patch_size} must divide {side}" if side % stem.patch_size else ""
    if isinstance(stem, Conv2x2Stem) and stem.stride == 1:
        return "at least 2 are needed" if side < 2 else ""
    return "an even number of at least 2 is needed" if side % 2 or side < 2 else ""


def _check_objective(spec: Experiment) -> Iterator[Finding]:
    objective, stem = spec.objective, spec.model.stem
    if not isinstance(objective, Mtm):
        return
    kind = ("objective", "kind")
    if spec.model.input != "tokens":
        yield Finding(kind, "mtm predicts tokens that the model reads; model.input: tokens is needed", (kind, _INPUT))
        return
    overlaps = isinstance(stem, Conv4x4Stem) or (isinstance(stem, Conv2x2Stem) and stem.stride == 1)
    if overlaps:
        message = "mtm needs patches that do not overlap, or masked tokens are seen by their neighbours; "
        message += "write stem: {kind: conv2x2}, or patchify"
        yield Finding(_STEM, message, (kind, _STEM, _INPUT))
        return
    side = spec.model.grid or stored_grid(spec)
    if not side or _stem_fault(spec.model, side):
        return
    patches = prod(spec.model.patch_grid((side, side)))
    because = (kind, _STEM, _GRID, _DATA, _TOKENIZER, _INPUT)
    if patches < FEWEST_PATCHES:
        yield Finding(kind, f"mtm on {patches} patch(es); at least {FEWEST_PATCHES} are needed to mask some", because)
    elif objective.mask.visible >= patches:
        path = ("objective", "mask", "visible")
        yield Finding(path, f"{objective.mask.visible} given; there are only {patches} patches", (*because, path))


def _check_parts(spec: Experiment) -> Iterator[Finding]:
    for name, task in spec.tasks.items():
        path = ("tasks", name)
        if name in RESERVED_NAMES:
            yield Finding(path, "this is the name of a stage; call the task something else", (path,))
        if getattr(task, "init", "auto") == "pretrain" and spec.objective is None:
            init = (*path, "init")
            message = "pretrain given; there is no objective to take weights from"
            yield Finding(init, message, (init, ("objective",)))
    for name, evaluation in spec.evaluate.items():
        path = ("evaluate", name)
        if isinstance(evaluation, Corruption) and isinstance(spec.data, SeitReleaseData):
            message = "corruption changes pixels; data of the kind seit_release have none"
            yield Finding((*path, "kind"), message, (path, ("data", "kind")))
        if getattr(evaluation, "split", "test") == "select" and not getattr(spec.data, "select_fraction", 0.0):
            message = "select given; data.select_fraction sets no images aside to select by"
            yield Finding((*path, "split"), message, (path, ("data", "select_fraction"), ("data", "kind")))
