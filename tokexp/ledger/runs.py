"""Runs: what somebody asked for, the stages that it needs, and how to find it again."""

import time
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tokexp.durable import write_atomic
from tokexp.errors import DamagedError, InputError
from tokexp.ledger.workspace import Workspace


class RunNode(BaseModel):
    """One stage of a run. `inputs` maps a role to the key of the stage that fills it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(description="The stage key.")
    kind: str = Field(description="The stage's kind.")
    name: str = Field(description="Its name in the experiment: tokens, pretrain, a task, task/evaluation.")
    seed: int | None = Field(None, description="The seed, for stages that use one.")
    inputs: dict[str, str] = Field({}, description="Role to stage key.")
    label: str = Field("", description="For people.")
    payload: dict[str, Any] = Field({}, description="What decides the stage's result, JSON-ready.")


class RunRecord(BaseModel):
    """A run as it was asked for and as it was understood."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str = Field("", description="Handle: the name and eight digits; from the spec's hash if not given.")
    name: str = Field(description="The experiment's name.")
    spec_hash: str = Field(min_length=8, description="Hash of the resolved spec, in hex.")
    created: float = Field(default_factory=time.time, description="Unix seconds.")
    spec_file: str = Field("", description="The file that was run.")
    spec_text: str = Field("", description="Its text.")
    cwd: str = Field("", description="The folder that relative paths of the spec are seen from.")
    resolved: dict[str, Any] = Field({}, description="The spec with everything filled in.")
    sources: dict[str, Any] = Field({}, description="Where each value came from.")
    provenance: dict[str, Any] = Field({}, description="Code, versions and machine.")
    nodes: tuple[RunNode, ...] = Field((), description="The stages, inputs before what needs them.")
    seeds: dict[int, dict[str, str]] = Field({}, description="Seed to the key of each named stage.")

    @model_validator(mode="before")
    @classmethod
    def _fill_ref(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("ref") and {"name", "spec_hash"} <= given.keys():
            return {**given, "ref": run_ref(str(given["name"]), str(given["spec_hash"]))}
        return given

    def keys(self) -> set[str]:
        """Return the keys of all stages."""
        return {node.key for node in self.nodes}

    def node(self, key: str) -> RunNode:
        """Return the stage with this key. Raises KeyError if the run has none."""
        return {node.key: node for node in self.nodes}[key]


def run_ref(name: str, identity: str) -> str:
    """Return the handle of a run; `identity` is a hash in hex."""
    return f"{name}-{identity[:8]}"


def save_run(workspace: Workspace, record: RunRecord) -> Path:
    """Write a run's record, replacing an earlier one of the same ref, and return its file."""
    path = _file(workspace.create(), record.ref)
    write_atomic(path, record.model_dump_json(indent=1).encode())
    return path


def read_runs(workspace: Workspace) -> tuple[list[RunRecord], list[str]]:
    """Return all runs, newest first, and what is wrong with the records that could not be read."""
    records, problems = [], []
    for path in sorted(workspace.runs.glob("*.json")):
        try:
            records.append(_load(path))
        except DamagedError as error:
            problems.append(str(error))
    return sorted(records, key=lambda record: record.created, reverse=True), problems


def list_runs(workspace: Workspace) -> list[RunRecord]:
    """Return all readable runs, newest first."""
    return read_runs(workspace)[0]


def load_run(workspace: Workspace, ref: str) -> RunRecord:
    """Find a run by its ref, a spec file, a name (the newest), or a prefix of a ref that fits one run alone.

    Raises InputError if no run or several fit, with the nearest refs; DamagedError if its record is unreadable.
    """
    exact = _file(workspace, ref) if ref and "/" not in ref else None
    if exact is not None and exact.is_file():
        return _load(exact)
    records = list_runs(workspace)
    for found in (_by_file(records, ref), [record for record in records if record.name == ref]):
        if found:
            return found[0]
    found = [record for record in records if ref and record.ref.startswith(ref)]
    if len(found) > 1:
        raise InputError(f"{len(found)} runs start with {ref!r}: {', '.join(record.ref for record in found[:5])}")
    if not found:
        raise InputError(_not_found(workspace, records, ref))
    return found[0]


def is_run_ref(workspace: Workspace, ref: str) -> bool:
    """Say whether `ref` is the whole ref, the spec file or the name of a run, and not only the start of one."""
    records = list_runs(workspace)
    return any(ref in (record.ref, record.name) for record in records) or bool(_by_file(records, ref))


def _by_file(records: list[RunRecord], ref: str) -> list[RunRecord]:
    wanted = Path(ref).expanduser().absolute().resolve()
    return [record for record in records if record.spec_file and Path(record.spec_file).resolve() == wanted]


def _not_found(workspace: Workspace, records: list[RunRecord], ref: str) -> str:
    unreadable = read_runs(workspace)[1]
    if not records and unreadable:
        return f"no run {ref!r} can be read: {unreadable[0]}"
    sweeps = sorted(folder.name for folder in workspace.sweeps.glob("*/") if not folder.name.startswith("."))
    if not records and sweeps:
        near = get_close_matches(ref, sweeps, n=4, cutoff=0.4) or sweeps[:4]
        return f"no run or sweep {ref!r} in {workspace.root}; it has the sweeps {', '.join(near)}"
    if not records:
        return f"no run {ref!r}: the workspace {workspace.root} has no runs; start one by `tokexp run SPEC`"
    words = {word: record.ref for record in reversed(records) for word in (record.name, record.ref)}
    near = list(dict.fromkeys(words[word] for word in get_close_matches(ref, words, n=4, cutoff=0.4)))
    shown = ", ".join(near or [record.ref for record in records[:4]])
    return f"no run {ref!r} in {workspace.root}; {'nearest' if near else 'newest'}: {shown}"


def _load(path: Path) -> RunRecord:
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DamagedError(f"the run record {path} is unreadable; run its spec again to write it anew") from error


def _file(workspace: Workspace, ref: str) -> Path:
    if not ref or ref.startswith(".") or "/" in ref or "\0" in ref:
        raise InputError(f"{ref!r} cannot be the ref of a run")
    return workspace.runs / f"{ref}.json"
