"""Objectives that learn from another network, and masked autoencoding: combinations that cannot work."""

from collections.abc import Iterator
from math import prod

from tokexp.spec.base import field_value
from tokexp.spec.bootstrap import Byol
from tokexp.spec.check_backbones import patch_work
from tokexp.spec.check_objectives import FEWEST_PATCHES, MOVING_STEPS, modulated_blocks
from tokexp.spec.check_positions import inside_encoder
from tokexp.spec.check_training import PIXEL_STEPS, TOKEN_STEPS, placed_steps
from tokexp.spec.distill import Dtm
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.grids import image_side, model_sides, overlapping
from tokexp.spec.masked import Beit, Mim
from tokexp.spec.masked_autoencoding import Mae
from tokexp.spec.morphing import Bipartite, Downsample, KMeans, MorphingSpec
from tokexp.spec.morphing_terms import DtmTerm, morphing_of
from tokexp.spec.objectives import Supervised
from tokexp.spec.self_distillation import Data2vec
from tokexp.spec.teachers import TeacherTarget, TimmTarget
from tokexp.spec.wording import did_you_mean
from tokexp.spec.yaml_tree import Path

WHOLE_ENCODERS = (Beit, Mim, Supervised)
"""Objectives whose encoder sees all patches in one sequence, as the term `dtm` needs."""

MOVING_VIEWS = MOVING_STEPS | {"pixel_flip", "token_rrc", "token_crop", "token_adapt"}
"""Steps after which a patch is no longer where it was."""

_STEM, _DATA, _TOKENIZER = ("model", "stem"), ("data",), ("tokenizer",)
_INPUT, _KIND, _GRID = ("model", "input"), ("objective", "kind"), ("model", "grid")
_GRID_OF: tuple[Path, ...] = (_KIND, _STEM, _GRID, _DATA, _TOKENIZER, _INPUT)


def check_learning(spec: Experiment) -> Iterator[Finding]:
    """Yield masks, views, groupings and targets that do not go with the model or with the experiment."""
    objective, morphing = spec.objective, morphing_of(spec.objective)
    if patch_work(spec):
        return
    if isinstance(objective, (Dtm, Mae, Data2vec)):
        yield from _check_masks(spec, objective)
    if isinstance(objective, Byol):
        yield from _check_views(spec, objective)
    yield from _check_terms(spec)
    if morphing is not None:
        path = morphing_place(spec)
        yield from _check_groups(spec, morphing, path)
        yield from _check_target(spec, getattr(morphing, "target", None), (*path, "target"))


def morphing_place(spec: Experiment) -> Path:
    """Return where the morphing of an objective is written; there must be one."""
    if isinstance(spec.objective, MorphingSpec):
        return ("objective",)
    if getattr(spec.objective, "dtm", None) is not None:
        return ("objective", "dtm")
    terms = getattr(spec.objective, "terms", ())
    return ("objective", "terms", next(number for number, term in enumerate(terms) if isinstance(term, DtmTerm)))


def _patches(spec: Experiment) -> tuple[int, int]:
    """Return the grid of patches, (0, 0) where it is not known."""
    sides = model_sides(spec)
    return spec.model.patch_grid(sides) if all(sides) else (0, 0)


def _check_masks(spec: Experiment, objective: Dtm | Mae | Data2vec) -> Iterator[Finding]:
    kind, patches = objective.kind, prod(_patches(spec))
    if overlapping(spec.model):
        message = f"{kind} needs patches that do not overlap, or hidden ones are seen by their neighbours; "
        yield Finding(_STEM, message + "write stem: {kind: conv2x2}, or patchify", (_KIND, _STEM, _INPUT))
    elif 0 < patches < FEWEST_PATCHES:
        message = f"{kind} on {patches} patch(es); at least {FEWEST_PATCHES} are needed to mask some"
        yield Finding(_KIND, message, _GRID_OF)
    elif (
        patches and isinstance(objective, (Dtm, Data2vec)) and objective.blocks.smallest > objective.predicted(patches)
    ):
        path: Path = ("objective", "blocks", "smallest")
        message = (
            f"{objective.blocks.smallest} given; only {objective.predicted(patches)} of {patches} patches are masked"
        )
        yield Finding(path, message, (*_GRID_OF, path, ("objective", "ratio")))
    if isinstance(objective, Data2vec) and objective.layer == "ffn" and modulated_blocks(spec):
        path = ("objective", "layer")
        message = "ffn given; it is what the MLPs of plain blocks give, and model.stem.blocks puts a norm behind them; "
        yield Finding(path, message + "write layer: block, or leave stem.blocks out", (path, _KIND, _STEM))
    if isinstance(objective, Data2vec) and objective.top_blocks > spec.model.blocks:
        path = ("objective", "top_blocks")
        message = f"{objective.top_blocks} given; the model has {spec.model.blocks} blocks"
        yield Finding(path, message, (path, _KIND, ("model", "depth"), ("model", "size")))


def _check_views(spec: Experiment, objective: Byol) -> Iterator[Finding]:
    views = ("objective", "views")
    if not objective.views:
        yield Finding(views, "missing; without steps both views of byol are the same image", (views, _KIND))
    refused = TOKEN_STEPS if spec.model.input == "pixels" else PIXEL_STEPS
    for path, step in placed_steps(objective.views, views):
        kind = str(getattr(step, "kind", ""))
        if kind in refused:
            message = f"{kind} does not work on {spec.model.input}, which this model reads"
            yield Finding(path, message, (path, _INPUT))
        elif kind in ("token_adapt", "token_eda"):
            yield Finding(path, f"{kind} cannot make a view; put it into augment.pretrain", (path,))
        elif kind in MOVING_VIEWS and objective.dtm is not None:
            message = f"{kind} moves patches, and dtm compares them at equal places; put it into augment.pretrain, "
            yield Finding(path, message + "where both views share it", (path, ("objective", "dtm")))


def _check_terms(spec: Experiment) -> Iterator[Finding]:
    phases: list[tuple[Path, object]] = [(("tasks", name), task) for name, task in spec.tasks.items()]
    for path, phase in [*phases, (("objective",), spec.objective)]:
        found = [number for number, term in enumerate(field_value(phase, "terms", ())) if isinstance(term, DtmTerm)]
        for number in found:
            where = (*path, "terms", number)
            if path[0] == "tasks":
                yield Finding(where, "dtm is a term of an objective; a task has no target", (where,))
            elif not isinstance(phase, WHOLE_ENCODERS):
                kind = spec.objective.kind if spec.objective is not None else ""
                does = "has a place for it: write objective.dtm" if isinstance(phase, (Mae, Byol)) else "cannot have it"
                message = f"the term dtm needs an encoder that sees all patches at once; {kind} {does}"
                yield Finding(where, message, (where, _KIND))
            elif len(found) > 1 and number != found[0]:
                yield Finding(where, "dtm is given twice; one target can be learned from", (where,))


def _check_groups(spec: Experiment, morphing: MorphingSpec, path: Path) -> Iterator[Finding]:
    rows, columns = _patches(spec)
    if not rows * columns:
        return
    grouper, inside = morphing.grouper, inside_encoder(morphing.grouper)
    if inside is not None and isinstance(spec.objective, Byol):
        where = (*path, "grouper", "kind")
        message = f"{inside} given; it would merge patches inside the average that byol itself learns from"
        yield Finding(where, message + "; choose a grouper of its output, such as bipartite", (where, _KIND))
    if isinstance(grouper, Downsample) and (rows % grouper.factor or columns % grouper.factor):
        where = (*path, "grouper", "factor")
        message = f"{grouper.factor} given; squares of that side do not tile {rows} x {columns} patches"
        yield Finding(where, message, (*_GRID_OF, where))
    if isinstance(grouper, (Bipartite, KMeans)):
        stuck = morphing.schedule.impossible(rows * columns, morphing.protects_first)
        if stuck is not None:
            where = (*path, "schedule", "iterations")
            message = f"{stuck} step(s) cannot remove a share of {morphing.schedule.removed[0]} of {rows * columns} "
            message += "tokens, as one removes at most half; raise iterations, or lower removed"
            yield Finding(where, message, (*_GRID_OF, where, (*path, "schedule", "removed")))


def _check_tower(spec: Experiment, target: TimmTarget, path: Path) -> Iterator[Finding]:
    """Yield patches of a tower that are not those of the model, where both are known."""
    (rows, columns), patch = _patches(spec), target.patch_side()
    side = image_side(spec) // patch if patch else 0
    if patch and rows and (side, side) != (rows, columns):
        where = (*path, "patch_size")
        message = f"patches of {patch} pixels are {side} x {side} of an image, and the model has {rows} x {columns}; "
        yield Finding(where, message + "morphing needs one for one", (where, (*path, "model"), *_GRID_OF))


def _check_target(spec: Experiment, target: object, path: Path) -> Iterator[Finding]:
    if isinstance(target, TimmTarget) and spec.model.input == "tokens":
        where = (*path, "kind")
        message = "timm given; its models read pixels, and this one stored tokens: choose momentum, or teacher"
        yield Finding(where, message, (where, _INPUT))
    elif isinstance(target, TimmTarget):
        yield from _check_tower(spec, target, path)
    if not isinstance(target, TeacherTarget) or target.origin.experiment is not None:
        return
    stage, where = target.origin.stage, (*path, "from", "stage")
    task = spec.tasks.get(stage)
    if task is None:
        says = "the pre-training cannot be its own teacher" if stage == "pretrain" else f"there is no task {stage!r}"
        message = f"{stage} given; {says}; a task with init: scratch, or another experiment, can be"
        yield Finding(where, message + did_you_mean(stage, spec.tasks), (where, ("tasks",)))
    elif getattr(task, "init", "auto") != "scratch":
        message = f"{stage} starts from the pre-training, whose teacher it is; write tasks.{stage}.init: scratch"
        yield Finding(where, message, (where, ("tasks", str(stage), "init")))
    if target.origin.seed is not None and target.origin.seed not in spec.seeds:
        where = (*path, "from", "seed")
        yield Finding(where, f"{target.origin.seed} given; this experiment has no such seed", (where, ("seeds",)))
