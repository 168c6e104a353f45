"""From event files to what a tracker shows: points, status, times, tags and parameters of one stage."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokexp.ledger.claims import holder
from tokexp.ledger.events import Event, read_events
from tokexp.ledger.outputs import is_done
from tokexp.ledger.runs import RunNode, RunRecord
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import Point, Status


@dataclass
class AttemptIndex:
    """The attempts of every stage key; each `job.json` is read once."""

    workspace: Workspace
    _seen: dict[str, tuple[int, str]] = field(default_factory=dict)

    def refresh(self) -> dict[str, list[str]]:
        """Return stage key to attempts, oldest first."""
        present = self.workspace.attempt_ids()
        for attempt in present:
            if attempt not in self._seen and (job := _job(self.workspace.attempt(attempt) / "job.json")):
                self._seen[attempt] = job
        found: dict[str, list[str]] = {}
        for attempt in sorted(self._seen.keys() & set(present), key=lambda name: (self._seen[name][0], name)):
            found.setdefault(self._seen[attempt][1], []).append(attempt)
        return found


def _job(path: Path) -> tuple[int, str] | None:
    """Return when a job was written, in nanoseconds, and its stage key."""
    try:
        return path.stat().st_mtime_ns, str(json.loads(path.read_bytes())["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass
class Cursor:
    """How far a stage has been shown: byte offset by attempt, last step by metric, first and last event's time."""

    offsets: dict[str, int] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None
    last: str | None = None

    def read(self, workspace: Workspace, attempts: list[str]) -> tuple[list[Point], list[str]]:
        """Return the points that are new, and what is wrong with the event files; the cursor moves behind them.

        An attempt that resumes repeats steps that an earlier one has shown already: each step is shown once.
        """
        points: list[Point] = []
        problems: list[str] = []
        for attempt in attempts:
            path = workspace.attempt(attempt) / "events.jsonl"
            events, self.offsets[attempt], wrong = read_events(path, self.offsets.get(attempt, 0))
            problems += [text for text in wrong if "has no end" not in text]
            for event in events:
                points += self._take(event)
        return points, problems

    def _take(self, event: Event) -> Iterator[Point]:
        time = float(event["t"])
        self.started = time if self.started is None else min(self.started, time)
        self.ended, self.last = time, str(event["e"])
        if event["e"] != "metrics":
            return
        step = int(event["step"])
        for name, value in event["values"].items():
            if step > self.steps.get(name, -1):
                self.steps[name] = step
                yield Point(name, float(value), step, round(time * 1000))


def stage_status(workspace: Workspace, node: RunNode, cursor: Cursor, *, live: bool = False) -> Status | None:
    """Return how a stage stands, None if it was never started.

    live: a controller works on it: a stage that was stopped, or whose process is gone, waits for its next attempt.
    """
    owner = holder(workspace, node.key)
    alive = owner is not None and owner.alive
    # An output is in place a moment before its attempt has said `done`.
    if is_done(workspace.output(node.kind, node.key)) and (cursor.last == "done" or not alive):
        return "FINISHED"
    if alive:
        return "RUNNING"
    if cursor.last is None:
        return None
    if live and cursor.last != "failed":
        return "RUNNING"
    return "FAILED" if cursor.last == "failed" else "KILLED"


def run_status(stages: Mapping[str, Status], total: int, live: bool) -> Status:
    """Return how a run of `total` stages stands. `live`: a controller works on it, so what is left will be run."""
    found = set(stages.values())
    if found == {"FINISHED"} and len(stages) == total:
        return "FINISHED"
    if live or "RUNNING" in found:
        return "RUNNING"
    return "FAILED" if "FAILED" in found else "KILLED"


def run_tags(record: RunRecord) -> dict[str, str]:
    """Return the tags by which a run is found."""
    git = record.provenance.get("git") or {}
    commit = str(git.get("commit", "")) + ("-dirty" if git.get("dirty") else "")
    tags = {"tokexp.run": record.ref, "tokexp.experiment": record.name, "tokexp.spec_hash": record.spec_hash}
    return {**tags, **({"tokexp.git": commit} if commit else {})}


def stage_tags(record: RunRecord, node: RunNode, reused: bool) -> dict[str, str]:
    """Return the tags of a stage's run: its own and all of its parent's, so that no search needs the parent."""
    own = {"tokexp.kind": node.kind, "tokexp.name": node.name, "tokexp.label": node.label}
    seed = {} if node.seed is None else {"tokexp.seed": str(node.seed)}
    return {**run_tags(record), **own, **seed, "tokexp.reused": str(reused).lower()}


def flatten(value: Any, path: str = "") -> dict[str, str]:
    """Return dotted path to text for everything that is set; a list of plain values is one text."""
    if isinstance(value, Mapping):
        inner = [flatten(item, f"{path}.{key}" if path else str(key)) for key, item in value.items()]
        return {name: text for part in inner for name, text in part.items()}
    if isinstance(value, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in value):
        return flatten({str(index): item for index, item in enumerate(value)}, path)
    if value is None or not path:
        return {}
    return {path: value if isinstance(value, str) else json.dumps(value)}
