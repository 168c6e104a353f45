"""Why two stages, runs or specs are not the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.table import Table
from rich.text import Text

from tokexp.errors import InputError
from tokexp.ledger.outputs import is_done, read_record
from tokexp.ledger.runs import RunRecord, list_runs, load_run
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.plan.keys import differences
from tokexp.spec.experiment import Experiment
from tokexp.spec.reading import read_experiment
from tokexp.spec.stages import StagePayload
from tokexp.verbs.printing import console, print_json

_NEUTRAL = ("name", "resources", "track")


@dataclass(frozen=True)
class _Side:
    """One of the two things compared: `stage` is what a stage's key is made of, `spec` a whole experiment."""

    name: str
    stage: dict[str, Any] | None = None
    spec: dict[str, Any] | None = None


def why(a: str, b: str, workspace: str | Path | None, json: bool) -> int:
    """Print the fields in which two stages (by key), two spec files or two runs differ."""
    found = resolve_workspace(workspace)
    runs = list_runs(found)
    left, right = (_resolve(found, runs, text) for text in (a, b))
    if (left.stage is None) != (right.stage is None):
        raise InputError("a stage and a whole experiment cannot be compared: give two keys, two files or two runs")
    if left.stage is not None and right.stage is not None:
        rows = list(_stage_rows(found, runs, left.stage, right.stage, ""))
    else:
        rows = [(path, old, new) for path, old, new in differences(left.spec, right.spec)]
    if json:
        listed = [{"path": path, "a": old, "b": new} for path, old, new in rows]
        print_json({"a": left.name, "b": right.name, "differences": listed})
        return 0
    table = Table.grid(padding=(0, 3))
    for path, old, new in rows:
        table.add_row(Text(path), Text(f"{_shown(old)} -> {_shown(new)}"))
    console().print(table if rows else "nothing that decides a result differs")
    return 0


def _resolve(workspace: Workspace, runs: list[RunRecord], text: str) -> _Side:
    if Path(text).is_file():
        spec = read_experiment(text, ()).experiment.relevant()
        return _Side(text, spec={name: value for name, value in spec.items() if name not in _NEUTRAL})
    try:
        key = workspace.find_key(text)
    except InputError as no_key:
        try:
            record = load_run(workspace, text)
        except InputError as no_run:
            raise InputError(f"{text!r} is no file, no stage key and no run: {no_key}; {no_run}") from no_run
        return _Side(record.ref, spec=_relevant_spec(record))
    return _Side(key, stage=_identity(workspace, runs, key))


def _relevant_spec(record: RunRecord) -> dict[str, Any]:
    try:
        spec = Experiment.model_validate_json(dumps(record.resolved)).relevant()
    except ValidationError:
        spec = record.resolved  # Of another version: as it was written down.
    return {name: value for name, value in spec.items() if name not in _NEUTRAL}


def _identity(workspace: Workspace, runs: list[RunRecord], key: str) -> dict[str, Any]:
    """Return what is known of a stage: all of it from its output, else what a run's record says."""
    folder = workspace.find_output(key)
    if folder is not None and is_done(folder):
        record = read_record(folder)
        known = ("kind", "version", "payload", "inputs", "fingerprint", "seed")
        return {name: record[name] for name in known if name in record} | {"payload": _payload(record["payload"])}
    for node in (node for run in runs for node in run.nodes if node.key == key):
        return {"kind": node.kind, "payload": _payload(node.payload), "inputs": node.inputs, "seed": node.seed}
    raise InputError(f"nothing is known about the stage {key[:12]} but its key; run its spec to record it")


def _payload(given: dict[str, Any]) -> dict[str, Any]:
    try:
        payload: Any = TypeAdapter(StagePayload).validate_json(dumps(given))
    except ValidationError:
        return given
    relevant: dict[str, Any] = payload.relevant()
    return relevant


def _stage_rows(
    workspace: Workspace, runs: list[RunRecord], left: dict[str, Any], right: dict[str, Any], place: str
) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, left, right); an input that differs is followed by what differs in it."""
    shared = left.keys() & right.keys()
    for path, old, new in differences(left["payload"], right["payload"]):
        yield place + path, old, new
    for name in ("kind", "version", "fingerprint", "seed"):
        if name in shared and left[name] != right[name]:
            yield place + name, left[name], right[name]
    roles = dict.fromkeys([*left["inputs"], *right["inputs"]])
    for role in roles:
        old, new = left["inputs"].get(role), right["inputs"].get(role)
        if old == new:
            continue
        yield f"{place}inputs.{role}", (old or "none")[:10], (new or "none")[:10]
        if old is not None and new is not None:
            a, b = _identity(workspace, runs, old), _identity(workspace, runs, new)
            yield from _stage_rows(workspace, runs, a, b, f"{place}{role}: ")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)
