"""Sweeps: what somebody asked for, the trials that came of it, and how to find them again.

    sweeps/<ref>/sweep.json     what was asked for, enough to go on without the original files
    sweeps/<ref>/trials.jsonl   every trial with the stages that it added, and how it ended; a chained event log
    sweeps/<ref>/study.journal  the search's own storage

`trials.jsonl` has one writer, whoever holds `controller.lock`; any number may read it meanwhile.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tokexp.durable import write_atomic
from tokexp.errors import DamagedError, InputError
from tokexp.ledger.events import Event, EventLog, read_events
from tokexp.ledger.records import Ledger, StageState
from tokexp.ledger.runs import RunNode, is_run_ref
from tokexp.ledger.workspace import Workspace

TrialState = Literal["planned", "running", "done", "pruned", "failed", "stopped"]
"""planned: not all of its stages are done, and none is at work. pruned: the search gave it up on purpose."""

TYPES: Final = frozenset({"asked", "trial", "given_up", "ended"})
"""Events of a sweep. asked: a person started it (again): what failed or was stopped is tried anew. trial: a trial and
the stages that no trial before it has. given_up: the search gives a point up. ended: a trial is settled."""

_STOPPED_BY_STAGES: Final[Mapping[StageState, TrialState]] = {"failed": "failed", "lost": "stopped"}

COMPLETE_FILE: Final = "complete"
"""In a sweep's folder once nothing is left to do."""


class SweepRecord(BaseModel):
    """A sweep as it was asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ref: str = Field(description="Handle: the name and eight digits of the spec's hash.")
    name: str = Field(description="The sweep's name.")
    spec_hash: str = Field(min_length=8, description="Hash of the sweep and its experiment, in hex.")
    created: float = Field(default_factory=time.time, description="Unix seconds.")
    spec_file: str = Field("", description="The file that was run.")
    spec_text: str = Field("", description="Its text.")
    cwd: str = Field("", description="The folder that relative paths of the spec are seen from.")
    frozen: dict[str, Any] = Field({}, description="Sweep and experiment, as `tokexp.spec.sweep_reading.thaw` reads.")
    searched: bool = Field(False, description="Whether points are asked for, rather than all known beforehand.")
    total: int | None = Field(None, description="Trials of a sweep whose points are all known beforehand.")
    metrics: tuple[dict[str, str], ...] = Field((), description="Name and direction of each.")
    seeds: tuple[int, ...] = Field((), description="The seeds of every point.")
    baseline: str | None = Field(None, description="The case that others are compared with.")
    published: dict[str, Any] | None = Field(None, description="The published table to print beside.")
    parameters: tuple[str, ...] = Field((), description="Dotted paths that trials differ in.")
    provenance: dict[str, Any] = Field({}, description="Code, versions and machine.")
    cluster: dict[str, Any] | None = Field(None, description="The cluster profile, if it runs on one.")
    track: dict[str, Any] = Field({}, description="Where MLflow records it.")


@dataclass(frozen=True)
class TrialRecord:
    """One point of a sweep, for one seed. `keys` maps a stage's name to its key; `values` a dotted path to a value.

    number: the point's number in the search, or its place among the static points. note: why it ended, in words.
    also: names of other cases that came to the same point.
    """

    id: str
    number: int
    case: str
    values: dict[str, Any]
    seed: int
    point: str
    keys: dict[str, str]
    state: TrialState = "planned"
    note: str = ""
    created: float = 0.0
    spec_hash: str = ""
    also: Sequence[str] = ()


@dataclass(frozen=True)
class Sweep:
    """A sweep with what became of it so far.

    nodes: every stage by key. asked: when it was last started, unix seconds. given_up: numbers of the points that the
    search gave up. lines: how many events its log has.
    """

    record: SweepRecord
    trials: tuple[TrialRecord, ...] = ()
    nodes: Mapping[str, RunNode] = field(default_factory=dict)
    asked: float = 0.0
    given_up: frozenset[int] = frozenset()
    lines: int = 0

    @property
    def ref(self) -> str:
        """The sweep's handle."""
        return self.record.ref


def sweep_folder(workspace: Workspace, ref: str) -> Path:
    """Return the folder of a sweep."""
    if not ref or ref.startswith(".") or "/" in ref or "\0" in ref:
        raise InputError(f"{ref!r} cannot be the ref of a sweep")
    return workspace.sweeps / ref


def save_sweep(workspace: Workspace, record: SweepRecord) -> Path:
    """Write a sweep's record, replacing an earlier one of the same ref (its first date stays); return its folder."""
    folder = sweep_folder(workspace.create(), record.ref)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "sweep.json"
    if file.exists():
        record = record.model_copy(update={"created": _load_record(file).created})
    write_atomic(file, record.model_dump_json(indent=1).encode())
    return folder


class TrialLog:
    """The open `trials.jsonl` of a sweep, for the holder of its lock."""

    def __init__(self, folder: Path) -> None:
        """Open for appending behind what is there. Raises OSError if the disk is full."""
        self._log = EventLog(folder / "trials.jsonl", TYPES, TYPES)

    def asked(self, at: float | None = None, seen: int | None = None) -> None:
        """Note that a person started the sweep, again or for the first time.

        at, seen: when that was (unix seconds) and how many events the log had then; None: now. What failed or was
        stopped since is not tried anew.
        """
        given: dict[str, Any] = {"at": at, "seen": seen}
        self._log.append("asked", **{name: value for name, value in given.items() if value is not None})

    def trial(self, trial: TrialRecord, nodes: Iterable[RunNode]) -> None:
        """Note a trial and the stages that no earlier trial has."""
        given = {name: value for name, value in vars(trial).items() if name not in ("state", "note", "created")}
        self._log.append("trial", trial=given, nodes=[node.model_dump(mode="json") for node in nodes])

    def given_up(self, number: int) -> None:
        """Note that the search gives a point up, by its number."""
        self._log.append("given_up", number=number)

    def ended(self, trial: str, state: TrialState, note: str = "") -> None:
        """Note how a trial ended."""
        self._log.append("ended", trial=trial, state=state, note=note)

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def read_trials(folder: Path) -> Sweep:
    """Return a sweep as its own files tell it; states are those that were noted. Raises DamagedError.

    A line that is being written is left for the next look; nothing from an altered line on is used, which is said.
    """
    record = _load_record(folder / "sweep.json")
    events, _, problems = read_events(folder / "trials.jsonl")
    if broken := [text for text in problems if "has no end" not in text]:
        raise DamagedError(f"{broken[0]}; move {folder} away and start the sweep again: finished stages are kept")
    trials: dict[str, TrialRecord] = {}
    nodes: dict[str, RunNode] = {}
    ends: dict[str, int] = {}
    asked, given_up = 0.0, set[int]()
    for event in events:
        if event["e"] == "asked":
            asked = float(event["at"] if "at" in event else event["t"])
            seen = int(event["seen"] if "seen" in event else event["n"])
            for trial in [each for each in trials.values() if each.state in ("failed", "stopped")]:
                if ends[trial.id] < seen:
                    trials[trial.id] = replace(trial, state="planned", note="")
        elif event["e"] == "given_up":
            given_up.add(int(event["number"]))
        else:
            _fold(event, trials, nodes, ends)
    return Sweep(record, tuple(trials.values()), nodes, asked, frozenset(given_up), len(events))


def load_sweep(workspace: Workspace, ref: str, *, ledger: Ledger | None = None) -> Sweep:
    """Find a sweep by its ref, spec file, name (the newest) or the start of its ref, with the states of its trials.

    States of trials that nobody has noted yet follow from their stages. Raises InputError with the nearest refs,
    DamagedError if its files are unreadable.
    """
    sweep = read_trials(sweep_folder(workspace, find_sweep(workspace, ref)))
    ledger = ledger or Ledger(workspace)
    return with_states(sweep, ledger.stage_states(sweep.nodes))


def with_states(sweep: Sweep, stages: Mapping[str, StageState]) -> Sweep:
    """Return the sweep with the states that follow from its stages, for trials that are not noted as settled."""
    trials = (replace(trial, state=_state(trial, stages)) for trial in sweep.trials)
    return replace(sweep, trials=tuple(trials))


def is_complete(workspace: Workspace, sweep: Sweep) -> bool:
    """Say whether nothing is left to do in a sweep, as a controller found, or as the states of all trials tell."""
    total, settled = sweep.record.total, [trial for trial in sweep.trials if trial.state in ("done", "pruned")]
    if total is not None and len(settled) >= total:
        return True
    return (sweep_folder(workspace, sweep.ref) / COMPLETE_FILE).exists()


def list_sweeps(workspace: Workspace) -> list[SweepRecord]:
    """Return the records of all readable sweeps, newest first."""
    records = []
    for file in sorted(workspace.sweeps.glob("*/sweep.json")):
        try:
            records.append(_load_record(file))
        except DamagedError:
            continue
    return sorted(records, key=lambda record: record.created, reverse=True)


def find_sweep(workspace: Workspace, ref: str) -> str:
    """Return the ref of the sweep that `ref` means. Raises InputError if there is none, or several fit."""
    if found := _matching(workspace, ref):
        if len(found) > 1 and found[0].name != ref and not _is_file(found[0], ref):
            raise InputError(f"{len(found)} sweeps start with {ref!r}: {', '.join(each.ref for each in found[:5])}")
        return found[0].ref
    records = list_sweeps(workspace)
    if not records:
        raise InputError(f"no sweep {ref!r}: the workspace {workspace.root} has none; start one by `tokexp sweep SPEC`")
    words = {word: record.ref for record in records for word in (record.name, record.ref)}
    near = list(dict.fromkeys(words[word] for word in get_close_matches(ref, words, n=4, cutoff=0.4)))
    shown = ", ".join(near or [record.ref for record in records[:4]])
    raise InputError(f"no sweep {ref!r} in {workspace.root}; {'nearest' if near else 'newest'}: {shown}")


def is_sweep_ref(workspace: Workspace, ref: str) -> bool:
    """Say whether `ref` means a sweep of this workspace: the name of a run goes before the start of a sweep's ref."""
    found = _matching(workspace, ref)
    whole = any(ref in (record.ref, record.name) or _is_file(record, ref) for record in found[:1])
    return bool(found) and (whole or not is_run_ref(workspace, ref))


def _matching(workspace: Workspace, ref: str) -> list[SweepRecord]:
    records = list_sweeps(workspace)
    for found in (
        [record for record in records if record.ref == ref],
        [record for record in records if _is_file(record, ref)],
        [record for record in records if record.name == ref],
        [record for record in records if ref and record.ref.startswith(ref)],
    ):
        if found:
            return found
    return []


def _is_file(record: SweepRecord, ref: str) -> bool:
    return bool(record.spec_file) and Path(record.spec_file).resolve() == Path(ref).expanduser().absolute().resolve()


def _fold(
    event: Event, trials: dict[str, TrialRecord], nodes: dict[str, RunNode], ends: dict[str, int]
) -> None:  # fmt: skip
    if event["e"] == "trial":
        trial = TrialRecord(**event["trial"], created=float(event["t"]))
        trials[trial.id] = trial
        for given in event["nodes"]:
            node = RunNode.model_validate(given)
            nodes[node.key] = node
    elif event["trial"] in trials:
        known = trials[event["trial"]]
        trials[known.id] = replace(known, state=event["state"], note=str(event.get("note", "")))
        ends[known.id] = int(event["n"])


def _state(trial: TrialRecord, stages: Mapping[str, StageState]) -> TrialState:
    if trial.state in ("done", "pruned", "failed", "stopped"):
        return trial.state
    found = {stages[key] for key in trial.keys.values() if key in stages}
    if found == {"done"}:
        return "done"
    if "running" in found:
        return "running"
    return next((state for stage, state in _STOPPED_BY_STAGES.items() if stage in found), "planned")


def _load_record(file: Path) -> SweepRecord:
    try:
        return SweepRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise DamagedError(f"the sweep's record {file} is unreadable; run its spec again to write it anew") from error
