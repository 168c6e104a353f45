"""Tests of patches that cannot work with the model or the data that they are given."""

from collections.abc import Iterator
from math import floor, prod

from tokexp.spec.evaluation import TokenSimilarity
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.grids import image_side, model_sides
from tokexp.spec.morphing import Bipartite, Downsample, KMeans, Ungrouped, asked_steps, made_steps
from tokexp.spec.patch_predictions import SpatialInconsistency
from tokexp.spec.yaml_tree import Path

_INPUT = ("model", "input")
_GRID: tuple[Path, ...] = (("data",), ("tokenizer",), _INPUT, ("model", "grid"), ("model", "stem"))


def check_evaluation(spec: Experiment) -> Iterator[Finding]:
    """Yield tests of patches that nothing could be found out by."""
    for name, evaluation in spec.evaluate.items():
        path = ("evaluate", name)
        if isinstance(evaluation, SpatialInconsistency):
            yield from _check_patches(spec, evaluation, path)
        elif isinstance(evaluation, TokenSimilarity) and _of_model(spec) == (1, 1):
            yield _one_patch(path)


def _check_patches(spec: Experiment, test: SpatialInconsistency, path: Path) -> Iterator[Finding]:
    if test.encoder is not None and spec.model.input == "tokens":
        where = (*path, "encoder")
        message = "timm's towers read pixels, and this model stored tokens; leave encoder out to test its own patches"
        yield Finding(where, message, (where, _INPUT))
        return
    if isinstance(test.grouper, Ungrouped):
        where = (*path, "grouper", "kind")
        yield Finding(where, "ungrouped given; patches are tested without morphing anyway", (where,))
        return
    rows, columns = _grid(spec, test)
    if rows * columns == 1:
        yield _one_patch(path)
    elif rows * columns:
        yield from _check_groups(test, rows, columns, path)


def _one_patch(path: Path) -> Finding:
    return Finding((*path, "kind"), "this compares patches of an image; there is one", (path, *_GRID))


def _of_model(spec: Experiment) -> tuple[int, int]:
    """Return the grid of the model's patches, (0, 0) where it is not known from the spec."""
    sides = model_sides(spec)
    return spec.model.patch_grid(sides) if all(sides) else (0, 0)


def _grid(spec: Experiment, test: SpatialInconsistency) -> tuple[int, int]:
    """Return the grid of the patches that are tested, (0, 0) where it is not known from the spec."""
    if test.encoder is None:
        return _of_model(spec)
    patch = test.encoder.patch_size
    side = image_side(spec) // patch if patch else 0
    return side, side


def _check_groups(test: SpatialInconsistency, rows: int, columns: int, path: Path) -> Iterator[Finding]:
    grouper, tokens = test.grouper, prod((rows, columns))
    if isinstance(grouper, Downsample) and (rows % grouper.factor or columns % grouper.factor):
        where = (*path, "grouper", "factor")
        message = f"{grouper.factor} given; squares of that side do not tile {rows} x {columns} patches"
        yield Finding(where, message, (*_GRID, where))
    if not isinstance(grouper, (Bipartite, KMeans)):
        return
    protected = isinstance(grouper, Bipartite) and grouper.protect_first
    for number, share in enumerate(test.removed):
        where = (*path, "removed", number)
        count = removed_tokens(share, tokens)
        asked = asked_steps(tokens, count, test.iterations, "balanced")
        if not 0 < count < tokens:
            message = f"{share} given; that removes {'none' if not count else 'all'} of {tokens} patches"
            yield Finding(where, message, (*_GRID, where))
        elif isinstance(grouper, Bipartite) and made_steps(tokens, asked, protected) != asked:
            message = f"{share} given; {test.iterations} step(s) cannot remove {count} of {tokens} patches, as one "
            message += "removes at most half; raise iterations, or lower removed"
            yield Finding(where, message, (*_GRID, where, (*path, "iterations")))


def removed_tokens(share: float, tokens: int) -> int:
    """Return how many of N tokens a share is."""
    return floor(share * tokens + 1e-9)
