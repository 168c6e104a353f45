"""One stage of a plan in a controller's hands: its state, its attempts, and why the last of them ended."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokexp.durable import write_atomic
from tokexp.launch.allowance import BUDGET
from tokexp.launch.attempts import Tail, attempts_of, last_log_line
from tokexp.launch.base import FAILED, JOB_FILE, STOPPED, Handle
from tokexp.launch.display import NodeState
from tokexp.launch.recovery import Cause, RetryBudget
from tokexp.ledger.workspace import Workspace
from tokexp.plan.graph import StageNode
from tokexp.spec.stages import StageJob

ENDED_FILE = "ended.json"
"""In an attempt's folder: why it ended, where only its launcher could tell."""


@dataclass
class Work:
    """A stage, how it stands, and its present attempt: `handle` if it is ours, `tail` to follow it.

    dropped: why nobody wants it any more; what is still at work on it was asked to stop.
    allowance: seconds that its next attempt may work, where a sweep's GPU hours are shared out; None: no limit.
    """

    node: StageNode
    state: NodeState = "to do"
    dropped: str = ""
    allowance: float | None = None
    budget: RetryBudget = field(default_factory=RetryBudget)
    handle: Handle | None = None
    tail: Tail | None = None


@dataclass(frozen=True)
class Failure:
    """A stage that could not be finished: why, in one line, and where to read more."""

    key: str
    name: str
    label: str
    cause: Cause
    message: str
    attempt: str
    log: str


def stage_job(node: StageNode, workspace: Workspace, name: str, allowance: float | None = None) -> StageJob:
    """Return what a worker is told about a stage of the plan called `name`; `allowance` is in seconds."""
    resources = node.resources
    fields: dict[str, Any] = {
        "key": node.key,
        "payload": node.payload,
        "seed": node.seed,
        "inputs": dict(node.inputs),
        "fingerprint": node.fingerprint,
        "workspace": str(workspace.root.absolute()),
        "device": resources.device,
        "threads": resources.cpus,
        "gpus": resources.gpus * resources.nodes,
        "allowance": allowance,
        "cwd": str(Path.cwd()),
        "label": f"{name}/{node.name}: {node.label}",
    }
    return StageJob.model_validate(fields)


def why(tail: Tail, exit_code: int, timed_out: bool = False) -> tuple[Cause, str]:
    """Return why an attempt ended without an output, as a cause and in words."""
    last = tail.last or {}
    reason = last.get("reason")
    if timed_out or reason == "timeout":
        return "timeout", "its time was up"
    if last.get("e") == "failed":
        return last["cause"], str(last["message"])
    if reason == "cancel":
        return "cancel", "it was cancelled"
    if reason == BUDGET:
        return "budget", "its share of the GPU hours is used"
    if reason == "pruned":
        return "pruned", "the search gave it up"
    if reason == "preempted":
        return "preempted", "it was preempted"
    if reason is not None or exit_code == STOPPED:
        return "stopped", "it was stopped by a signal"
    if exit_code < 0:
        return "lost", f"its process ended without a word (signal {signal.Signals(-exit_code).name})"
    line = last_log_line(tail.folder)
    return "code", f"its process ended with code {exit_code}" + (f": {line}" if line else "")


def note_end(folder: Path, cause: Cause, message: str) -> None:
    """Write down why an attempt ended, so that whoever comes next knows it too."""
    write_atomic(folder / ENDED_FILE, json.dumps({"cause": cause, "message": message}).encode())


def past_end(tail: Tail) -> tuple[Cause, str]:
    """Return why an attempt of the past ended, from what it and its launcher left behind."""
    tail.read()
    try:
        noted = json.loads((tail.folder / ENDED_FILE).read_bytes())
        return noted["cause"], str(noted["message"])
    except (OSError, ValueError, KeyError, TypeError):
        return why(tail, FAILED if tail.last is not None else -signal.SIGKILL)


def counts(tail: Tail, cause: Cause) -> bool:
    """Say whether an attempt of the past is held against its stage.

    Not one that found the stage claimed, or that a search gave up, and not one that never said a word: the controller
    that began it may have died before its process did.
    """
    if cause == "pruned" or (tail.last or {}).get("reason") == "claimed":
        return False
    return tail.begun or tail.last is not None or (tail.folder / ENDED_FILE).exists()


def past_attempts(workspace: Workspace, key: str, since: float) -> list[Tail]:
    """Return the attempts at a stage that were made after `since` (unix seconds), oldest first."""
    found = []
    for folder in attempts_of(workspace, key):
        try:
            made = (folder / JOB_FILE).stat().st_mtime
        except OSError:
            continue
        if made >= since:
            found.append(Tail(folder))
    return found
