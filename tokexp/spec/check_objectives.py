"""Objectives that cannot work with the model, the tokenizer or the augmentation that they are given."""

from collections.abc import Iterator
from math import prod

from tokexp.spec.base import field_value
from tokexp.spec.check_coefficients import check_coefficients
from tokexp.spec.check_training import placed_steps
from tokexp.spec.context_autoencoding import Cae
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.grids import model_sides, overlapping, stored_sides
from tokexp.spec.masked import Beit
from tokexp.spec.objectives import Mtm
from tokexp.spec.permuted import Mapet, Pim
from tokexp.spec.token_targets import PredictsTokens
from tokexp.spec.yaml_tree import Path

FEWEST_PATCHES = 4
"""Patches below which masking leaves nothing to predict from."""

MOVING_STEPS = frozenset({"pixel_rrc", "mixup", "token_cutmix"})
"""Steps on pixels that stored tokens cannot follow. A flip they can: it moves whole tokens."""

_DATA, _TOKENIZER, _STEM = ("data",), ("tokenizer",), ("model", "stem")
_INPUT, _GRID, _KIND = ("model", "input"), ("model", "grid"), ("objective", "kind")
_BECAUSE: tuple[Path, ...] = (_KIND, _STEM, _GRID, _DATA, _TOKENIZER, _INPUT)
_BLOCKS = ("model", "stem", "blocks")


def modulated_blocks(spec: Experiment) -> bool:
    """Say whether some of the model's blocks end with a norm of MoTo's, so that they are no plain ones."""
    return bool(field_value(spec.model.stem, "blocks", ()))


def check_objective(spec: Experiment) -> Iterator[Finding]:
    """Yield what keeps an objective that hides patches from working with the model."""
    objective, reads_tokens = spec.objective, spec.model.input == "tokens"
    if not isinstance(objective, (Mtm, PredictsTokens)) or not spec.model.KEEPS_PATCHES:
        return
    if list(check_coefficients(spec)):
        return
    kind = objective.kind
    if isinstance(objective, Mtm) and not reads_tokens:
        message = "mtm predicts tokens that the model reads; model.input: tokens is needed"
        yield Finding(_KIND, message, (_KIND, _INPUT))
        return
    if not reads_tokens and spec.tokenizer is None:
        yield Finding(_TOKENIZER, f"missing; {kind} predicts tokens of the pixels", (_KIND, _TOKENIZER, _INPUT))
        return
    if overlapping(spec.model):
        message = f"{kind} needs patches that do not overlap, or hidden ones are seen by their neighbours; "
        message += "write stem: {kind: conv2x2}, or patchify"
        yield Finding(_STEM, message, (_KIND, _STEM, _INPUT))
    elif isinstance(objective, (Pim, Mapet)) and modulated_blocks(spec):
        message = f"{kind} runs two streams through plain blocks; these end with a norm of their own, so leave them out"
        yield Finding(_BLOCKS, message, (_KIND, _STEM))
    else:
        yield from _check_patches(spec, objective)


def _check_patches(spec: Experiment, objective: Mtm | PredictsTokens) -> Iterator[Finding]:
    kind, sides = objective.kind, model_sides(spec)
    if not all(sides):
        return
    grid = spec.model.patch_grid(sides)
    tokens = stored_sides(spec)
    if spec.model.input == "pixels" and all(tokens) and grid != tokens:
        message = f"{kind} predicts one token for every patch: these are {grid[0]} x {grid[1]} patches, "
        message += f"and the tokenizer gives {tokens[0]} x {tokens[1]} tokens"
        yield Finding(_STEM, message, _BECAUSE)
    elif prod(grid) < FEWEST_PATCHES:
        message = f"{kind} on {prod(grid)} patch(es); at least {FEWEST_PATCHES} are needed to mask some"
        yield Finding(_KIND, message, _BECAUSE)
    elif isinstance(objective, Mtm):
        yield from _check_mtm(objective, prod(grid))
    else:
        yield from _check_counts(objective, prod(grid))
        yield from _check_neck(spec)


def _check_mtm(objective: Mtm, patches: int) -> Iterator[Finding]:
    if objective.mask.visible >= patches:
        path = ("objective", "mask", "visible")
        yield Finding(path, f"{objective.mask.visible} given; there are only {patches} patches", (*_BECAUSE, path))


def _check_counts(objective: PredictsTokens, patches: int) -> Iterator[Finding]:
    predicted = objective.predicted(patches)
    if predicted < 1:
        path: Path = ("objective", "cut")
        message = f"{getattr(objective, 'cut', None)} given; of {patches} patches that leaves none to predict"
        yield Finding(path, message, (*_BECAUSE, path, ("objective", "cut_counts_cls")))
    elif isinstance(objective, (Beit, Cae)) and objective.blocks.smallest > predicted:
        path = ("objective", "blocks", "smallest")
        message = f"{objective.blocks.smallest} given; only {predicted} of {patches} patches are masked"
        yield Finding(path, message, (*_BECAUSE, path, ("objective", "ratio")))


def _check_neck(spec: Experiment) -> Iterator[Finding]:
    if not isinstance(spec.objective, Cae):
        return
    try:
        spec.objective.neck.shape(spec.model.stem_width)
    except ValueError as error:
        path = ("objective", "neck", "heads")
        yield Finding(path, f"{error}; change one of them", (path, _KIND, ("model", "width")))


def check_targets(spec: Experiment) -> Iterator[Finding]:
    """Yield targets that would not be the tokens of what the model sees."""
    objective, path = spec.objective, ("objective", "targets")
    if not isinstance(objective, PredictsTokens):
        return
    if spec.model.input == "tokens":
        if objective.targets == "encoded":
            message = f"encoded given; this model reads tokens, and these are what {objective.kind} predicts"
            yield Finding(path, message, (path, _INPUT, _KIND))
        return
    if objective.targets != "stored":
        return
    for where, step in placed_steps(spec.augment.pretrain, ("augment", "pretrain")):
        kind = getattr(step, "kind", "")
        if kind in MOVING_STEPS:
            does = "crops pixels" if kind == "pixel_rrc" else "mixes images"
            message = f"{kind} {does}, and the stored tokens that {objective.kind} predicts cannot follow; "
            message += "leave it out, or write objective.targets: encoded"
            yield Finding(where, message, (where, path, _INPUT, _KIND))
