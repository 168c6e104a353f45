"""Combinations of policies, batches and resources that cannot work."""

from collections.abc import Callable, Iterator
from functools import lru_cache

from tokexp.spec.augment import (
    Halves,
    Mixup,
    OneOf,
    Sometimes,
    TokenAdapt,
    TokenCrop,
    TokenCutmix,
    TokenEda,
    TokenRrc,
    inner_lists,
    walk_steps,
)
from tokexp.spec.base import Spec, field_value
from tokexp.spec.data import GivenTokens
from tokexp.spec.experiment import Experiment
from tokexp.spec.findings import Finding
from tokexp.spec.grids import stored_sides
from tokexp.spec.tasks import Classify
from tokexp.spec.train import TrainSpec
from tokexp.spec.yaml_tree import Path

TOKEN_STEPS = frozenset({"token_rrc", "token_crop", "token_eda", "emb_noise", "color_adapt", "token_adapt"})
"""Steps that need a token grid. token_cutmix and mixup work on pixels too."""

PIXEL_STEPS = frozenset({"pixel_rrc", "pixel_flip", "color_jitter"})
"""Steps that need pixels."""

Phase = tuple[Path, TrainSpec, str]
"""Path of a training phase, what it says, and the kind of stage that runs it."""


def branches(step: Spec) -> list[tuple[Path, tuple[Spec, ...]]]:
    """Return the lists of steps inside a combinator with their paths; nothing for a plain step."""
    if isinstance(step, OneOf):
        return [(("one_of", number), (inner,)) for number, inner in enumerate(step.one_of)]
    if isinstance(step, Sometimes):
        return [(("do",), step.do)]
    if isinstance(step, Halves):
        return [(("halves", number), half) for number, half in enumerate(step.halves)]
    return []


def placed_steps(steps: tuple[Spec, ...], path: Path, single: bool = False) -> Iterator[tuple[Path, Spec]]:
    """Yield every plain step with its path. `single` says that `path` is already the path of the one step."""
    for number, step in enumerate(steps):
        here = path if single else (*path, number)
        inner = branches(step)
        if not inner:
            yield here, step
        for below, part in inner:
            yield from placed_steps(part, (*here, *below), isinstance(step, OneOf))


def check_policies(spec: Experiment) -> Iterator[Finding]:
    """Yield steps that do not fit what the model reads, and steps that come too late."""
    for phase in ("pretrain", "task"):
        policy, path = getattr(spec.augment, phase), ("augment", phase)
        for where, step in placed_steps(policy, path):
            yield from _misplaced(spec, where, step)
        if spec.model.input == "tokens":
            late, _ = _late(policy, path, False, TokenEda, _looks_up)
            message = "token_eda changes indices; put it before the steps that change embeddings"
            yield from (Finding(where, message, (path,)) for where in late)
            yield from _check_adapt(spec, policy, path)


def _misplaced(spec: Experiment, path: Path, step: Spec) -> Iterator[Finding]:
    kind, because = str(getattr(step, "kind", "")), (path, ("model", "input"))
    if spec.model.input == "pixels" and kind in TOKEN_STEPS:
        yield Finding(path, f"{kind} works on tokens; this model reads pixels", because)
    elif spec.model.input == "tokens" and kind in PIXEL_STEPS:
        yield Finding(path, f"{kind} works on pixels; this model reads tokens", because)
    elif isinstance(step, TokenAdapt) and isinstance(spec.data, GivenTokens):
        message = f"token_adapt is trained on pixels; data of the kind {spec.data.kind} have none"
        yield Finding(path, message, (*because, ("data", "kind")))


def _check_adapt(spec: Experiment, policy: tuple[Spec, ...], path: Path) -> Iterator[Finding]:
    """Yield token_adapt after a crop: its networks read whole stored grids."""
    stored, grid = stored_sides(spec), spec.model.grid
    if grid is None or not all(stored) or stored == (grid, grid):
        return
    late, _ = _late(policy, path, False, TokenAdapt, _crops)
    message = f"token_adapt reads the whole stored grid, {stored[0]} x {stored[1]}, and a step before it leaves "
    message += f"{grid} x {grid}; put it first, or into a half of its own"
    yield from (Finding(where, message, (path, ("model", "grid"), ("tokenizer",), ("data",))) for where in late)


def _looks_up(step: Spec) -> bool:
    return not isinstance(step, TokenEda)


def _crops(step: Spec) -> bool:
    return isinstance(step, (TokenRrc, TokenCrop, TokenAdapt))


def _late(
    steps: tuple[Spec, ...], path: Path, done: bool, wanted: type[Spec], does: Callable[[Spec], bool],
    single: bool = False,
) -> tuple[list[Path], bool]:  # fmt: skip
    """Return the paths of `wanted` steps that follow one that does what they cannot, and whether one did at the end."""
    late: list[Path] = []
    for number, step in enumerate(steps):
        here = path if single else (*path, number)
        inner, one = branches(step), isinstance(step, OneOf)
        if not inner:
            late += [here] if done and isinstance(step, wanted) else []
            done = done or does(step)
        else:
            results = [_late(part, (*here, *below), done, wanted, does, one) for below, part in inner]
            late += [where for found, _ in results for where in found]
            # Halves are joined as a policy ends: looked up, on the model's grid.
            done = isinstance(step, Halves) or any(after for _, after in results)
    return late, done


PHASE_BLOCKS = ("tokenizer", "augment", "objective", "tasks")
"""The blocks that have training phases."""


def training_phases(spec: Experiment, block: str) -> list[Phase]:
    """Return the training phases of a block, those of kinds from other packages included."""
    named: list[tuple[Path, object, str]] = []
    if block == "tokenizer":
        named = [(("tokenizer",), spec.tokenizer, "tokenizer")]
    elif block == "augment":
        adapts = any(isinstance(step, TokenAdapt) for step in walk_steps(spec.augment.pretrain + spec.augment.task))
        named = [(("augment", "adapt"), spec.augment.adapt, "adapt")] if adapts else []
    elif block == "objective":
        named = [(("objective",), spec.objective, "pretrain")]
    else:
        named = [(("tasks", name), task, "downstream") for name, task in spec.tasks.items()]
    trains = [((*path, "train"), field_value(part, "train"), stage) for path, part, stage in named]
    return [(path, train, stage) for path, train, stage in trains if isinstance(train, TrainSpec)]


def parts_needed(steps: tuple[Spec, ...]) -> int:
    """Return the number that a micro-batch must be a multiple of: 2 for halves, twice that where a half is mixed."""
    needed = 1
    for step in steps:
        for part in inner_lists(step):
            below = parts_needed(part)
            if isinstance(step, Halves):
                below = max(2 * below, 4 if any(_mixes(each) for each in walk_steps(part)) else 2)
            needed = max(needed, below)
    return needed


class _Policy:
    """A policy as itself: comparing or hashing all of its steps takes longer than looking at them."""

    __slots__ = ("steps",)

    def __init__(self, steps: tuple[Spec, ...]) -> None:
        self.steps = steps

    def __hash__(self) -> int:
        return id(self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Policy) and other.steps is self.steps


@lru_cache(maxsize=64)
def _parts_of(policy: _Policy) -> int:
    return parts_needed(policy.steps)


def _mixes(step: Spec) -> bool:
    return isinstance(step, (Mixup, TokenCutmix)) or (isinstance(step, TokenAdapt) and bool(step.mixup or step.cutmix))


def check_averages(spec: Experiment, block: str) -> Iterator[Finding]:
    """Yield averages of weights that nothing would use."""
    for path, train, stage in training_phases(spec, block):
        if train.ema is not None and stage not in ("pretrain", "downstream"):
            ema = (*path, "ema")
            yield Finding(ema, f"{train.ema} given, but averaged weights of this phase are used nowhere", (ema,))


def check_batches(spec: Experiment, block: str) -> Iterator[Finding]:
    """Yield batch sizes that a policy cannot cut into halves."""
    phase = "pretrain" if block == "objective" else "task"
    multiple = _parts_of(_Policy(getattr(spec.augment, phase)))
    for path, train, _ in training_phases(spec, block):
        micro = train.batch_size // train.accumulate
        if micro % multiple:
            cut = f" / accumulate {train.accumulate}" if train.accumulate > 1 else ""
            message = f"{train.batch_size}{cut} given; a multiple of {multiple} is needed, because augment.{phase} "
            message += "cuts batches into halves" + (" and mixes inside them" if multiple > 2 else "")
            because = ((*path, "batch_size"), (*path, "accumulate"), ("augment", phase))
            yield Finding((*path, "batch_size"), message, because)


def check_validation(spec: Experiment) -> Iterator[Finding]:
    """Yield tasks that hold images out whose labels their pre-training has learned."""
    if spec.objective is None or spec.objective.kind != "supervised":
        return
    for name, task in spec.tasks.items():
        if isinstance(task, Classify) and task.validation is not None and task.init != "scratch":
            where = ("tasks", name, "validation")
            message = "the supervised objective learns the labels of all training images, also of those held out here; "
            yield Finding(where, message + "write init: scratch", (where, ("objective",), ("tasks", name, "init")))


def check_processes(spec: Experiment, block: str) -> Iterator[Finding]:
    """Yield phases whose result would depend on the number of processes."""
    for path, train, stage in training_phases(spec, block):
        resources = spec.resources_for(stage)
        processes = resources.nodes * resources.members()
        if processes > 1 and train.accumulate % processes:
            where = (*path, "accumulate")
            message = f"{train.accumulate} given; a multiple of {processes} (the processes of this stage) is needed, "
            message += "so that the result does not depend on the number of processes"
            yield Finding(where, message, (where, ("resources",)))


def check_resources(spec: Experiment) -> Iterator[Finding]:
    """Yield resources that contradict themselves."""
    for name, resources in spec.resources.items():
        if resources.device == "cpu" and resources.gpus:
            where = ("resources", str(name), "gpus")
            yield Finding(where, f"{resources.gpus} given, but device is cpu; keep one of them", (where,))
        if resources.gpus and resources.processes > 1:
            where = ("resources", str(name), "processes")
            message = f"{resources.processes} given; each of {resources.gpus} GPUs has its own process, leave it out"
            yield Finding(where, message, (where, ("resources", str(name), "gpus")))
