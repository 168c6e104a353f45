"""Teachers that are stages of another experiment: whether its file can be read, and trains what is asked of it.

`from: {experiment: FILE, stage: ..., seed: ..., set: {...}}`. No data and no weights are looked at.
"""

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from tokexp.errors import Problem, SpecError
from tokexp.spec.canonical import digest
from tokexp.spec.check_dtm import morphing_place
from tokexp.spec.check_positions import has_relative_positions, inside_encoder
from tokexp.spec.experiment import Experiment
from tokexp.spec.file_memory import FileMemory
from tokexp.spec.findings import Finding
from tokexp.spec.grids import model_sides, read_sides, stem_fault
from tokexp.spec.morphing_terms import morphing_of, target_of
from tokexp.spec.overrides import SET
from tokexp.spec.teachers import Origin, TeacherTarget
from tokexp.spec.validating import placed
from tokexp.spec.wording import did_you_mean, listed
from tokexp.spec.yaml_tree import Path

if TYPE_CHECKING:
    from tokexp.spec.reading import ReadSpec

_OTHERS: "FileMemory[ReadSpec]" = FileMemory(most=64)


class _CircleError(Exception):
    """Experiments take from each other in a circle."""


def check_origins(spec: Experiment) -> Iterator[Finding]:
    """Yield why the other experiment that a teacher is taken from cannot give it."""
    try:
        yield from _faults(spec, ())
    except _CircleError:
        origin, path = _origin_of(spec)
        assert origin is not None
        message = f"{origin.experiment} takes its teacher from itself, directly or through others"
        yield Finding((*path, "experiment"), message, (path,))


def read_other(origin: Origin) -> "ReadSpec":
    """Return the other experiment that an origin names, its values laid over it, without checks of its own origin.

    Raises SpecError if it is not valid.
    """
    # Reading looks for impossible combinations, of which this module finds some.
    from tokexp.spec.checks import check
    from tokexp.spec.reading import open_document

    assert origin.experiment is not None
    file = os.path.expanduser(origin.experiment)  # noqa: PTH111 (a Path would drop a leading ./)
    laid = tuple(f"{path}={json.dumps(value)}" for path, value in origin.set.items())

    def read() -> "tuple[ReadSpec, Sequence[str]]":
        document = open_document(file)
        return document.read(laid, look=partial(check, origins=False)), document.files

    return _OTHERS.recall((file, laid), read)


def real_file(origin: Origin) -> str:
    """Return the one name of the other experiment's file, however it is written."""
    assert origin.experiment is not None
    return os.path.realpath(FilePath(origin.experiment).expanduser())


def misfits(student: Experiment, origin: Origin, other: Experiment) -> Iterator[tuple[str, str]]:
    """Yield the field of an origin that is wrong, and why: no such seed or stage, or an encoder of something else."""
    where = "this experiment" if origin.experiment is None else origin.experiment
    if origin.seed is not None and origin.seed not in other.seeds:
        yield "seed", f"{where} has no seed {origin.seed}; its seeds are {listed(map(str, sorted(other.seeds)))}"
    trained = [*(["pretrain"] if other.objective is not None else []), *other.tasks] if other.until is None else []
    if origin.stage not in trained:
        close = did_you_mean(origin.stage, trained)
        yield "stage", f"{where} trains no encoder in a stage {origin.stage!r}; it has {listed(trained)}{close}"
    elif not other.model.KEEPS_PATCHES:
        does = f"trains a {other.model.kind} in {origin.stage}, which keeps no single patches"
        yield "stage", f"{where} {does}; teach by a vit"
    elif (merging := inside_encoder(getattr(morphing_of(student.objective), "grouper", None))) and (
        has_relative_positions(other)
    ):
        does = f"trains a vit with biases of relative position, and the grouper {merging} merges patches between blocks"
        yield "stage", f"{where} {does}; teach by one with positions: absolute"
    elif other.model.input != student.model.input:
        yield "stage", f"{where} trains an encoder of {other.model.input}, and this model reads {student.model.input}"
    elif other.model.input == "tokens" and _certainly_differ(student, other):
        yield "stage", OTHER_TOKENS.format(where)
    elif unlike := _unlike_patches(student, other):
        yield "stage", f"{where} trains an encoder {unlike}; morphing needs one patch for one"


def _unlike_patches(student: Experiment, other: Experiment) -> str:
    """Return how another encoder cuts what the student reads, where that is known to differ from the student's way."""
    own, read = model_sides(student), read_sides(student.model_copy(update={"model": other.model}))
    if not all(own) or not all(read):
        return ""
    if own != read:
        return f"of {read[0]} x {read[1]} tokens, and this model reads {own[0]} x {own[1]}"
    fault = stem_fault(other.model, read)
    if fault:
        return f"that cannot cut {read[0]} x {read[1]} {student.model.input}: {fault}"
    theirs, ours = other.model.patch_grid(read), student.model.patch_grid(own)
    return "" if theirs == ours else f"of {theirs[0]} x {theirs[1]} patches, and this model has {ours[0]} x {ours[1]}"


OTHER_TOKENS = "{} trains an encoder of another tokenizer's tokens; use the same tokenizer"


def _certainly_differ(one: Experiment, other: Experiment) -> bool:
    """Say whether two tokenizers are not the same stage. Files of equal content can have two names: not certain."""
    from tokexp.spec.stages import TokenizerStage  # All stages' specs: a validation without teachers needs none.

    if one.tokenizer is None or other.tokenizer is None:
        return one.tokenizer is not other.tokenizer
    keys = set()
    for data, tokenizer in ((one.data, one.tokenizer), (other.data, other.tokenizer)):
        if hasattr(tokenizer, "files") and tokenizer.files():
            return False
        keys.add(digest(TokenizerStage(kind="tokenizer", data=data, tokenizer=tokenizer, weights=None).relevant()))
    return len(keys) > 1


def _origin_of(spec: Experiment) -> tuple[Origin | None, Path]:
    """Return the reference to another experiment, None without one, and where it is written."""
    target = target_of(spec.objective)
    if not isinstance(target, TeacherTarget) or target.origin.experiment is None:
        return None, ()
    return target.origin, (*morphing_place(spec), "target", "from")


def _faults(spec: Experiment, above: tuple[str, ...]) -> Iterator[Finding]:
    """Yield what is wrong with the origin of an experiment, those of the experiments on the way to it included."""
    origin, path = _origin_of(spec)
    if origin is None:
        return
    real = real_file(origin)
    if real in above:
        raise _CircleError
    try:
        other = read_other(origin)
    except SpecError as error:
        yield from _unreadable(origin, error.problems, path)
        return
    below = [placed(other.tree, fault) for fault in _faults(other.experiment, (*above, real))]
    if below:
        yield _not_valid(origin, below, path)
        return
    blocks: tuple[Path, ...] = (path, ("seeds",), ("data",), ("tokenizer",), ("model", "input"))
    for field, message in misfits(spec, origin, other.experiment):
        yield Finding((*path, field), message, blocks)


def _unreadable(origin: Origin, problems: list[Problem], path: Path) -> Iterator[Finding]:
    from tokexp.spec.sweep_reading import is_sweep

    assert origin.experiment is not None
    laid = [each for each in problems if each.file == SET]
    for each in laid:
        key = next((key for key in origin.set if f"{each.path}.".startswith(f"{key}.")), None)
        where = (*path, "set") if key is None else (*path, "set", key)
        yield Finding(where, f"{each.path}: {each.message}" if each.path else each.message, (path,))
    own = [each for each in problems if each.file != SET]
    if not own:
        return
    if own[0].line is None:
        yield Finding((*path, "experiment"), f"{origin.experiment}: {own[0].message}", (path,))
    elif is_sweep(real_file(origin)):
        yield Finding((*path, "experiment"), f"{origin.experiment} is a sweep; name an experiment", (path,))
    else:
        yield _not_valid(origin, own, path)


def _not_valid(origin: Origin, problems: Sequence[Problem], path: Path) -> Finding:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Finding(
        (*path, "experiment"), f"{origin.experiment} is not a valid experiment: {problems[0]}{more}", (path,)
    )
