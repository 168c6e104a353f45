"""Networks that an objective learns from, as part of the graph: the stage that trains one, or the content of a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from tokexp.data.listing import ABSENT
from tokexp.durable import file_digest
from tokexp.errors import InputError
from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.experiment import Experiment
from tokexp.spec.reading import read_experiment
from tokexp.spec.stages import DownstreamStage, PretrainStage
from tokexp.spec.target_source import TargetSource
from tokexp.spec.teachers import Origin
from tokexp.spec.wording import did_you_mean, listed

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
    path = Path(file).expanduser()
    try:
        return _digest(path, path.stat().st_mtime_ns)
    except OSError as error:
        if strict:
            raise InputError(f"{field}: {file}: {error.strerror or error}") from error
        return ABSENT


@lru_cache(maxsize=8)
def _digest(path: Path, changed: int) -> str:
    del changed
    return file_digest(path)


def other_experiment(origin: Origin, above: tuple[str, ...]) -> tuple[Experiment, tuple[str, ...]]:
    """Return the experiment that an origin names, and the files on the way to it.

    Raises SpecError if it is not valid, and InputError if experiments take from each other in a circle.
    """
    assert origin.experiment is not None
    real = os.path.realpath(Path(origin.experiment).expanduser())
    if real in above:
        raise InputError(f"from: {origin.experiment} takes its teacher from itself, directly or through others")
    changed = Path(real).stat().st_mtime_ns if Path(real).exists() else 0
    laid = tuple(f"{path}={json.dumps(value)}" for path, value in origin.set.items())
    return _read(origin.experiment, laid, real, changed), (*above, real)


@lru_cache(maxsize=8)
def _read(file: str, laid: tuple[str, ...], real: str, changed: int) -> Experiment:
    del real, changed
    return read_experiment(file, laid).experiment


def take_from(
    origin: Origin, stages: Stages, add: Callable[[StageNode], None], tokenizer: str | None
) -> tuple[str, TargetSource]:
    """Add the stages that an origin needs, inputs first; return its key and what its encoder is.

    `tokenizer` is the key of the tokenizer whose tokens the student reads, None if it reads pixels. Raises InputError
    where the origin is no stage that trains an encoder, or one of other tokens.
    """
    nodes, seeds = stages
    seed = next(iter(seeds)) if origin.seed is None else origin.seed
    where = "this experiment" if origin.experiment is None else origin.experiment
    if seed not in seeds:
        raise InputError(f"from: {where} has no seed {seed}; its seeds are {listed(map(str, sorted(seeds)))}")
    trained = [name for name, key in seeds[seed].items() if nodes[key].kind in ("pretrain", "downstream")]
    if origin.stage not in trained:
        close = did_you_mean(origin.stage, trained)
        raise InputError(
            f"from: {where} trains no encoder in a stage {origin.stage!r}; it has {listed(trained)}{close}"
        )
    key = seeds[seed][origin.stage]
    _add_with_inputs(key, nodes, add)
    node = nodes[key]
    _check_tokens(node, nodes, where, tokenizer)
    payload = node.payload
    model: BackboneSpec = payload.model  # type: ignore[attr-defined]
    if not model.KEEPS_PATCHES:
        does = f"trains a {model.kind} in {origin.stage}, which keeps no single patches"
        raise InputError(f"from: {where} {does}; teach by a vit")
    if isinstance(payload, DownstreamStage):
        return key, TargetSource(role="downstream", model=payload.model, embed=payload.embed)
    assert isinstance(payload, PretrainStage)
    return key, TargetSource(
        role="pretrain", model=payload.model, embed=getattr(payload.objective, "input", "codebook")
    )


def _check_tokens(node: StageNode, nodes: Mapping[str, StageNode], where: str, tokenizer: str | None) -> None:
    tokens = node.inputs.get("tokens")
    reads = nodes[tokens] if tokens is not None and node.payload.model.input == "tokens" else None  # type: ignore[attr-defined]
    if (reads is None) != (tokenizer is None):
        says = "pixels" if reads is None else "tokens"
        raise InputError(f"from: {where} trains an encoder of {says}, and this model reads the other")
    if reads is not None and reads.inputs.get("tokenizer", "") != tokenizer:
        raise InputError(f"from: {where} trains an encoder of another tokenizer's tokens; use the same tokenizer")


def _add_with_inputs(key: str, nodes: Mapping[str, StageNode], add: Callable[[StageNode], None]) -> None:
    for needed in nodes[key].inputs.values():
        _add_with_inputs(needed, nodes, add)
    add(nodes[key])
