"""The JSON Schema by which editors check and complete spec files, and the list of all kinds.

The schema takes what the reader takes: shorthands (`1.4 GiB`, `5 epochs`), references (`${a.b}`), and, in a file with
`extends`, blocks that are only partly written.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.base import Spec
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.evaluation import EvaluationSpec
from tokexp.spec.experiment import Experiment
from tokexp.spec.morphing import GrouperSpec
from tokexp.spec.shape import Slot, fields_of, slot_of
from tokexp.spec.sweep import SweepSpec
from tokexp.spec.teachers import TargetSpec
from tokexp.spec.terms import TermSpec
from tokexp.spec.tokenizers import QuantizerSpec

PARTS: Mapping[str, type[Spec]] = {"experiment": Experiment, "sweep": SweepSpec, "cluster": ClusterSpec}
"""What a file of the language can be."""

SCHEMA_ID = "https://tokexp.dev/schema/experiment-1.json"
"""Identifier of the schema of experiments (a name, not a place to fetch it from); those of other parts are alike."""

_Json = dict[str, Any]
_REFERENCE = {"type": "string", "pattern": r"\$\{[A-Za-z0-9_.-]+\}", "description": "The value of another field."}
_TEXTS = {
    "Budget": {"type": "string", "description": "Such as '1.4 GiB' or '1.1 kB/image'."},
    "Warmup": {"type": ["number", "string"], "description": "Such as 0.1, '5 epochs' or '500 steps'."},
    "Condition": {
        "type": ["string", "number", "boolean", "null", "array"],
        "description": "A value (equal), or a list (one of).",
    },
    "Published": {"type": "string", "description": "Such as seitpp/table-7."},
}
_DURATIONS = ("memory", "time", "poll", "signal_delay")
_PART = ".part"


def json_schema(of: str = "experiment") -> _Json:
    """Return the JSON Schema (draft 2020-12) of the files of one part: experiment, sweep or cluster."""
    spec = PARTS[of]
    schema = spec.model_json_schema(by_alias=True, mode="validation")
    defs: _Json = schema.pop("$defs")
    root = _opened(_with_texts({spec.__name__: schema, **defs}))
    whole = root.pop(spec.__name__)
    whole["properties"]["extends"] = _EXTENDS
    if "augment" in whole["properties"]:
        whole["properties"]["augment"] = _either(whole["properties"]["augment"], _policy(root))
    partial = cast(_Json, _loosened(whole))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID.replace("experiment", of),
        "title": f"tokexp {of}",
        "description": inspect.getdoc(spec),
        "type": "object",
        "if": {"required": ["extends"]},
        "then": partial,
        "else": whole,
        "$defs": {**root, "Reference": _REFERENCE, **{f"{name}{_PART}": _loosened(one) for name, one in root.items()}},
    }


_EXTENDS = {
    "description": "Files that this one builds on, relative to it; later ones win, and this file wins over all.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}


def _with_texts(defs: _Json) -> _Json:
    """Let the blocks that have a shorthand be written as text."""
    return {name: {"anyOf": [_TEXTS[name], one]} if name in _TEXTS else one for name, one in defs.items()}


def _policy(defs: _Json) -> _Json:
    augment = defs["AugmentSpec"]["properties"]["pretrain"]
    return {**augment, "description": "One policy for every training phase."}


def _either(one: _Json, other: _Json) -> _Json:
    return {"anyOf": [other, one]}


def _opened(node: Any, key: str = "") -> Any:
    """Return a schema in which every value may also be a reference, and sizes and times may be text."""
    if isinstance(node, list):
        return [_opened(item) for item in node]
    if not isinstance(node, dict):
        return node
    opened = {name: value if name == "default" else _opened(value, name) for name, value in node.items()}
    fields = opened.get("properties")
    if isinstance(fields, dict) and key != "properties":
        opened["properties"] = {name: _referable(name, field) for name, field in fields.items()}
    for inside in ("additionalProperties", "items") if key != "properties" else ():
        if isinstance(opened.get(inside), dict) and opened[inside]:
            opened[inside] = _referable("", opened[inside])
    return opened


def _referable(name: str, field: Any) -> Any:
    if name in ("kind", "schema") or not isinstance(field, dict):
        return field
    kept = {word: field[word] for word in ("description", "default") if word in field}
    bare = {word: value for word, value in field.items() if word not in kept}
    texts = [{"type": "string"}] if name in _DURATIONS else []
    return {**kept, "anyOf": [bare, *texts, {"$ref": "#/$defs/Reference"}]}


def _loosened(node: Any) -> Any:
    """Return a schema for a block of which a part comes from another file."""
    if isinstance(node, list):
        return [_loosened(item) for item in node]
    if not isinstance(node, dict):
        return node
    loose: _Json = {}
    for name, value in node.items():
        if name == "$ref" and isinstance(value, str):
            loose[name] = value if value.endswith("/Reference") else value + _PART
        elif name == "oneOf":
            loose["anyOf"] = _loosened(value)
        elif name not in ("required", "discriminator") or (isinstance(value, dict) and "type" in value):
            loose[name] = _loosened(value)
    return loose


def kinds() -> dict[str, list[tuple[str, str]]]:
    """Return the kinds of every block with the first line of what each is, third-party kinds included."""
    slots: Mapping[str, Callable[[], Slot]] = {
        "data": lambda: _field(Experiment, "data"),
        "tokenizer": lambda: _field(Experiment, "tokenizer"),
        "quantizer": lambda: slot_of(QuantizerSpec),
        "codec": lambda: _field(_spec_of(Experiment, "storage"), "codec"),
        "reduce": lambda: _field(_spec_of(Experiment, "storage"), "reduce"),
        "model": lambda: _field(Experiment, "model"),
        "stem": lambda: _field(BackboneSpec, "stem"),
        "augment": lambda: _item(_field(_spec_of(Experiment, "augment"), "pretrain")),
        "objective": lambda: _field(Experiment, "objective"),
        "target": lambda: slot_of(TargetSpec),
        "grouper": lambda: slot_of(GrouperSpec),
        "terms": lambda: slot_of(TermSpec),
        "tasks": lambda: _item(_field(Experiment, "tasks")),
        "evaluate": lambda: slot_of(EvaluationSpec),
        "sampler": lambda: _field(SweepSpec, "sampler"),
        "pruner": lambda: _field(SweepSpec, "pruner"),
    }
    return {
        block: [(kind, _first_line(cls)) for kind, cls in _classes(find()).items()] for block, find in slots.items()
    }


def _field(spec: type[Spec], name: str) -> Slot:
    return fields_of(spec)[name]


def _spec_of(spec: type[Spec], name: str) -> type[Spec]:
    found: type[Spec] | None = _field(spec, name).spec
    assert found is not None
    return found


def _item(slot: Slot) -> Slot:
    assert slot.item is not None
    return slot.item


def _classes(slot: Slot) -> Mapping[str, type[Spec]]:
    if slot.spec is None:
        return slot.kinds
    return {str(get_args(fields_of(slot.spec)["kind"].type)[0]): slot.spec}


def _first_line(cls: type[Spec]) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]
