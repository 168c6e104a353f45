"""Combinations that cannot work, each found from the spec alone and reported with its reason.

What is checked here would otherwise fail in the middle of a job, or run and mean nothing.
"""

from collections.abc import Callable, Iterator
from functools import partial

from tokexp.spec.check_backbones import check_backbone
from tokexp.spec.check_coefficients import check_coefficients
from tokexp.spec.check_dtm import check_learning
from tokexp.spec.check_evaluation import check_evaluation
from tokexp.spec.check_objectives import check_objective, check_targets
from tokexp.spec.check_origins import check_origins
from tokexp.spec.check_positions import check_positions
from tokexp.spec.check_reducing import check_reducing
from tokexp.spec.check_stored import check_stored
from tokexp.spec.check_terms import check_terms
from tokexp.spec.check_training import (
    PHASE_BLOCKS,
    check_averages,
    check_batches,
    check_policies,
    check_processes,
    check_resources,
    check_validation,
)
from tokexp.spec.coefficients import Dct
from tokexp.spec.data import SIZES, GivenTokens, TokenStoreData, TorchvisionData
from tokexp.spec.evaluation import Corruption
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding, twice_written
from tokexp.spec.grids import image_side, pixels_per_token, read_sides, stem_fault, stored_sides
from tokexp.spec.published_tokenizers import FrozenTokenizer
from tokexp.spec.storage import SeitCodec
from tokexp.spec.tokenizers import PatchKMeans, VqVae

MOST_CODES_SEIT = 510
"""Largest codebook that SeiT's bytes hold: a second byte of 255 cannot be followed by a third."""

MOST_CODES = 65536
"""Largest codebook that a token store holds (16 bits for an index)."""

SMALLEST_SEEN = 16
"""Side of the smallest pictures that a perceptual loss can compare."""

RESERVED_NAMES = ("tokenizer", "tokens", "images", "adapt", "pretrain")
"""Names of stages, which a task therefore cannot have."""

_DATA, _TOKENIZER, _MODEL, _STEM = ("data",), ("tokenizer",), ("model",), ("model", "stem")
_INPUT, _GRID = ("model", "input"), ("model", "grid")


def check(experiment: Experiment, *, origins: bool = True) -> list[Finding]:
    """Return all impossible combinations of a valid experiment; without `origins`, other experiments are not read."""
    looks = [look for _, look in CHECKS if origins or look is not check_origins]
    return [finding for look in (*looks, _check_seeds) for finding in look(experiment)]


def _check_input(spec: Experiment) -> Iterator[Finding]:
    released, kind = isinstance(spec.data, GivenTokens), spec.data.kind
    because = (_TOKENIZER, _INPUT, ("data", "kind"))
    if released and spec.tokenizer is not None:
        yield Finding(_TOKENIZER, f"data of the kind {kind} are tokens already; leave the tokenizer out", because)
    if spec.model.input == "tokens" or spec.until is not None:
        if not released and spec.tokenizer is None:
            message = "missing; a model that reads tokens needs one (or write model.input: pixels)"
            message = message if spec.until is None else "missing; it makes the tokens that are to be stored"
            yield Finding(_TOKENIZER, message, because)
        return
    if isinstance(spec.data, GivenTokens):
        yield Finding(_INPUT, f"data of the kind {kind} have no pixels; input: tokens is needed", because)
    elif spec.model.pixel_norm == "imagenet" and spec.data.image_shape()[0] != 3:
        path = ("model", "pixel_norm")
        yield Finding(path, "ImageNet's statistics are for 3 channels; these images have 1", (path, ("data",)))
    for name in ("budget", "fraction"):
        if getattr(spec.storage, name) is not None and spec.storage.reduce is None:
            path = ("storage", name)
            message = "only stored tokens can be cut; this model reads pixels (write storage.reduce to store some)"
            yield Finding(path, message, (path, _INPUT))
    if spec.model.grid is not None:
        yield Finding(_GRID, "the side of a token grid; this model reads pixels", (_GRID, _INPUT))


def _check_data(spec: Experiment) -> Iterator[Finding]:
    data = spec.data
    if isinstance(data, TorchvisionData) and data.name not in SIZES and data.image_size is None:
        path = ("data", "image_size")
        yield Finding(path, f"missing; the images of {data.name} differ in size", (path, ("data", "name")))
    if getattr(data, "test_fraction", 1) == 0 and getattr(data, "test", None) is None and spec.until is None:
        path = ("data", "test_fraction")
        yield Finding(path, "0 given; tests need images that are held out (or write until: tokens)", (path, ("until",)))


def _check_tokenizer(spec: Experiment) -> Iterator[Finding]:
    side, (name, step) = image_side(spec), pixels_per_token(spec.tokenizer)
    if side % step:
        where = ("tokenizer", name)
        yield Finding(where, f"{step} given; it must divide the images' side, {side}", (where, _DATA))
    if isinstance(spec.tokenizer, FrozenTokenizer) and side and not isinstance(spec.data, GivenTokens):
        fault = spec.tokenizer.fault(spec.data.image_shape())
        if fault:
            yield Finding(_TOKENIZER, fault, (_TOKENIZER, _DATA))
    if isinstance(spec.tokenizer, VqVae):
        yield from _check_losses(spec.tokenizer, side)
    codes, path = codes_of(spec)
    if codes > MOST_CODES:
        yield Finding(path, f"{codes} codes; a token store holds at most {MOST_CODES}", (path,))
    elif codes > MOST_CODES_SEIT and isinstance(spec.storage.codec, SeitCodec):
        message = f"{codes} codes; the codec seit holds at most {MOST_CODES_SEIT} (packed holds any)"
        yield Finding(path, message, (path, ("storage", "codec", "kind"), _INPUT))


def _check_losses(tokenizer: VqVae, side: int) -> Iterator[Finding]:
    least = 0 if tokenizer.adversarial is None else 3 * 2**tokenizer.adversarial.layers
    if 0 < side < least:
        path = ("tokenizer", "adversarial", "layers")
        message = f"so many halvings need images of {least} pixels or more on a side; these have {side}"
        yield Finding(path, message, (path, _DATA))
    if tokenizer.perceptual is not None and 0 < side < SMALLEST_SEEN:
        where = ("tokenizer", "perceptual")
        message = f"its network needs images of {SMALLEST_SEEN} pixels or more on a side; these have {side}"
        yield Finding(where, message, (where, _DATA))


def codes_of(spec: Experiment) -> tuple[int, tuple[str, ...]]:
    """Return the number of codes and the path of the field that decides it."""
    tokenizer = spec.tokenizer
    if isinstance(tokenizer, PatchKMeans):
        return tokenizer.codebook_size, ("tokenizer", "codebook_size")
    if isinstance(tokenizer, FrozenTokenizer):
        return tokenizer.num_codes(), ("tokenizer", "kind")
    if isinstance(tokenizer, Dct):
        return tokenizer.num_codes(), ("tokenizer", "levels")
    given = spec.data.token_shape() if isinstance(spec.data, TokenStoreData) else None
    if given is not None:
        return given.codes, ("data", "train")
    quantizer = tokenizer.quantizer if isinstance(tokenizer, VqVae) else None
    if quantizer is not None:
        return quantizer.num_codes(), ("tokenizer", "quantizer", quantizer.SIZE_FIELD)
    return 0, _TOKENIZER


def _check_model(spec: Experiment) -> Iterator[Finding]:
    model = spec.model
    if spec.until is not None:
        return
    stored = stored_sides(spec) if model.input == "tokens" else (0, 0)
    base = (_DATA, _TOKENIZER, _INPUT)
    if model.grid is not None and all(stored) and model.grid > min(stored):
        message = f"{model.grid} given; the stored grid is {stored[0]} x {stored[1]}, and a model reads at most that"
        yield Finding(_GRID, message, (*base, _GRID))
        return
    sides = read_sides(spec)
    if not all(sides):
        return
    unit = "pixels" if model.input == "pixels" else "tokens"
    reason = stem_fault(model, sides)
    if reason:
        message = f"{model.stem.kind} cannot cut {sides[0]} x {sides[1]} {unit} into patches: {reason}"
        yield Finding(_STEM, message, (*base, _GRID, _STEM))


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
        if isinstance(evaluation, Corruption) and isinstance(spec.data, GivenTokens):
            message = f"corruption changes pixels; data of the kind {spec.data.kind} have none"
            yield Finding((*path, "kind"), message, (path, ("data", "kind")))
        if getattr(evaluation, "split", "test") == "select" and not getattr(spec.data, "select_fraction", 0.0):
            message = "select given; data.select_fraction sets no images aside to select by"
            yield Finding((*path, "split"), message, (path, ("data", "select_fraction"), ("data", "kind")))


def _check_seeds(spec: Experiment) -> Iterator[Finding]:
    """Yield seeds that are written twice. None of CHECKS, which the points of sweeps run: sweeps look at their own."""
    yield from twice_written(spec.seeds)


CHECKS: tuple[tuple[tuple[str, ...], Callable[[Experiment], Iterator[Finding]]], ...] = (
    (("data", "tokenizer", "storage", "model", "until"), _check_input),
    (("data", "until"), _check_data),
    (("data", "objective", "tasks", "until"), check_stored),
    (("data", "tokenizer", "storage"), _check_tokenizer),
    (("data", "tokenizer", "model", "until"), _check_model),
    (("data", "tokenizer", "model", "objective"), check_coefficients),
    (("storage", "model", "objective"), check_reducing),
    (("data", "tokenizer", "model", "objective", "tasks", "evaluate"), check_backbone),
    (("data", "tokenizer", "model", "objective"), check_objective),
    (("model", "augment", "objective"), check_targets),
    (("data", "tokenizer", "model", "objective", "tasks", "seeds"), check_learning),
    (("data", "tokenizer", "model", "objective"), check_origins),
    (("model", "objective", "evaluate"), check_positions),
    (("data", "objective", "tasks", "evaluate"), _check_parts),
    (("data", "tokenizer", "model", "evaluate"), check_evaluation),
    (("data", "tokenizer", "model", "augment"), check_policies),
    (("data", "model", "objective", "tasks"), check_terms),
    (("resources",), check_resources),
    (("objective", "tasks"), check_validation),
    *(((block,), partial(check_averages, block=block)) for block in PHASE_BLOCKS),
    *(((block, "augment"), partial(check_batches, block=block)) for block in ("objective", "tasks")),
    *(((block, "resources"), partial(check_processes, block=block)) for block in PHASE_BLOCKS),
)
"""Every check with the blocks that it reads: it need not be repeated where they are the same."""
