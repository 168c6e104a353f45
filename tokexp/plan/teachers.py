"""Networks that an objective learns from, as part of the graph: the stage that trains one, or the content of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tokexp.data.listing import ABSENT
from tokexp.durable import file_digest
from tokexp.errors import InputError
from tokexp.spec.check_origins import OTHER_TOKENS, read_other, real_file
from tokexp.spec.experiment import Experiment
from tokexp.spec.file_memory import FileMemory
from tokexp.spec.stages import DownstreamStage, PretrainStage
from tokexp.spec.target_source import TargetSource
from tokexp.spec.teachers import Origin

if TYPE_CHECKING:
    from tokexp.plan.graph import StageNode

Stages = tuple[Mapping[str, "StageNode"], Mapping[int, Mapping[str, str]]]
"""The stages of an experiment by key, and for each seed the keys by name."""


def weights_source(file: str, *, strict: bool) -> TargetSource:
    """Return what the file's content adds to a stage's key (see `content_of`)."""
    return TargetSource(weights=content_of(file, "objective: target.weights", strict=strict))


def content_of(file: str, field: str, *, strict: bool) -> str:
    """Return the digest of a file that a field names; "absent" without `strict` where there is no file.

    Raises InputError if it cannot be read.
    """
    try:
        return _DIGESTS.recall(file, lambda: (file_digest(Path(file).expanduser()), [file]))
    except OSError as error:
        if strict:
            raise InputError(f"{field}: {file}: {error.strerror or error}") from error
        return ABSENT


_DIGESTS = FileMemory[str](most=64)


def other_experiment(origin: Origin, above: tuple[str, ...]) -> tuple[Experiment, tuple[str, ...]]:
    """Return the experiment that an origin names, and the files on the way to it.

    Raises SpecError if it is not valid, and InputError if experiments take from each other in a circle.
    """
    real = real_file(origin)
    if real in above:
        raise InputError(f"from: {origin.experiment} takes its teacher from itself, directly or through others")
    return read_other(origin).experiment, (*above, real)


def take_from(
    origin: Origin, stages: Stages, add: Callable[[StageNode], None], tokenizer: str | None
) -> tuple[str, TargetSource]:
    """Add the stages that an origin needs, inputs first; return its key and what its encoder is.

    The origin has no `misfits`. `tokenizer` is the key of the tokenizer whose tokens the student reads, None if it
    reads pixels. Raises InputError where the encoder reads another tokenizer's tokens, which files can tell alone.
    """
    nodes, seeds = stages
    key = seeds[next(iter(seeds)) if origin.seed is None else origin.seed][origin.stage]
    _add_with_inputs(key, nodes, add)
    node = nodes[key]
    payload = node.payload
    if tokenizer is not None and nodes[node.inputs["tokens"]].inputs.get("tokenizer", "") != tokenizer:
        raise InputError(f"from: {OTHER_TOKENS.format(origin.experiment)}")
    if isinstance(payload, DownstreamStage):
        return key, TargetSource(role="downstream", model=payload.model, embed=payload.embed)
    assert isinstance(payload, PretrainStage)
    return key, TargetSource(
        role="pretrain", model=payload.model, embed=getattr(payload.objective, "input", "codebook")
    )


def _add_with_inputs(key: str, nodes: Mapping[str, StageNode], add: Callable[[StageNode], None]) -> None:
    for needed in nodes[key].inputs.values():
        _add_with_inputs(needed, nodes, add)
    add(nodes[key])
