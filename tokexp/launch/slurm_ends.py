"""What the end of a job means for its attempt: the scheduler's word, what the attempt wrote, and its signs of life."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tokexp.launch.attempts import Tail, last_log_line, log_end
from tokexp.launch.base import DONE, FAILED, JOB_FILE, STOP_FILE, STOPPED, Ended, Handle
from tokexp.launch.recovery import Cause
from tokexp.launch.slurm_record import read_job
from tokexp.launch.slurm_states import LIVE, JobState, State
from tokexp.launch.work import ENDED_FILE
from tokexp.ledger.claims import holder
from tokexp.ledger.outputs import complete
from tokexp.ledger.workspace import Workspace

_FINAL = frozenset({"cancel", "pruned", "budget"})
"""Reasons of a stop after which a job does not come back."""

_MEMORY = re.compile(r"exceeded (job )?memory limit|oom.kill|out of memory", re.IGNORECASE)
_NOT_LAUNCHED = re.compile(r"srun: error: .*(unable to create step|task launch|job launch failed)", re.IGNORECASE)
_CAUSES: dict[State, tuple[Cause, str]] = {
    "timeout": ("timeout", "its time was up"),
    "preempted": ("preempted", "it was preempted"),
    "node_fail": ("lost", "its node failed"),
    "out_of_memory": ("memory", "it used more memory than it had asked for"),
    "dependency": ("dependency", "what it needs did not end well"),
    "lost": ("lost", "SLURM knows nothing of its job any more"),
}


def end_of(handle: Handle, state: JobState) -> Ended | None:
    """Return how an attempt ended, given the state of its job; None if it goes on, or may."""
    if state.state in LIVE:
        return None
    tail = Tail(handle.folder)
    tail.read()
    said = (tail.last or {}).get("e")
    if said == "done" or is_met(handle.folder):
        return Ended(handle, DONE)
    if said == "failed":
        return Ended(handle, FAILED)
    if state.state == "unknown" or (state.state == "lost" and _is_alive(handle.folder)):
        return None
    if (tail.last or {}).get("reason") in _FINAL:
        return Ended(handle, STOPPED)
    if state.state == "completed":
        return Ended(handle, DONE)
    if state.state == "failed":
        return _failed(handle, state, began=tail.begun)
    # What waited and was cancelled is sometimes not known to anybody any more.
    if state.state == "cancelled" or (state.state == "lost" and _asked(handle.folder)):
        return _cancelled(handle, began=tail.begun)
    # What is taken out because of what it needs is forgotten by the queue after a while, and never was in accounting.
    in_vain = state.state == "lost" and not tail.begun and _waited_in_vain(handle.folder)
    cause, message = _CAUSES["dependency" if in_vain else state.state]
    return Ended(handle, STOPPED, state.state == "timeout", cause, message)


def has_ended(folder: Path) -> bool:
    """Say whether an attempt's own files tell that it is over, whatever became of its job."""
    if (folder / ENDED_FILE).exists():
        return True
    tail = Tail(folder)
    tail.read()
    last = tail.last or {}
    return last.get("e") in ("done", "failed") or last.get("reason") in _FINAL


def is_met(folder: Path) -> bool:
    """Say whether the output that an attempt works for is there."""
    try:
        job = json.loads((folder / JOB_FILE).read_bytes())
        return complete(Workspace(Path(job["workspace"])).output(job["payload"]["kind"], job["key"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _is_alive(folder: Path) -> bool:
    try:
        job = json.loads((folder / JOB_FILE).read_bytes())
        held = holder(Workspace(Path(job["workspace"])), job["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return held is not None and held.alive and held.attempt == folder.name


def _failed(handle: Handle, state: JobState, *, began: bool) -> Ended:
    code = FAILED if state.exit_code is None else state.exit_code
    if _MEMORY.search(_script_log(handle.folder)):  # Without cgroups SLURM has no state of its own for it.
        return Ended(handle, code, False, *_CAUSES["out_of_memory"])
    lines = [line.strip() for line in _script_log(handle.folder).splitlines() if line.strip()]
    line = (lines or [""])[-1]
    if code > 0 and _NOT_LAUNCHED.search(line):  # Such as of a requeued job whose earlier node is not done with it.
        return Ended(handle, code, cause="lost", message=f"SLURM could not start its process: {line}")
    if began or code < 0:
        return Ended(handle, code)
    if code == STOPPED:
        return _cancelled(handle, began=False)
    line = last_log_line(handle.folder) or line
    message = f"its job ended with code {code} before the stage began" + (f": {line}" if line else "")
    return Ended(handle, code, cause="code", message=message)


def _cancelled(handle: Handle, *, began: bool) -> Ended:
    asked = _asked(handle.folder)
    if asked == "pruned":
        return Ended(handle, STOPPED, cause="pruned", message="the search gave it up")
    if not asked and not began and _waited_in_vain(handle.folder):
        return Ended(handle, STOPPED, False, *_CAUSES["dependency"])
    return Ended(handle, STOPPED, cause="cancel", message="its job was cancelled")


def _asked(folder: Path) -> str:
    """Return for what reason the attempt was asked to stop, or nothing."""
    try:
        return (folder / STOP_FILE).read_text().strip() or "cancel"
    except OSError:
        return ""


def _waited_in_vain(folder: Path) -> bool:
    known = read_job(folder)
    return known is not None and any(not is_met(folder.parent / name) for name in known.after)


def _script_log(folder: Path) -> str:
    """Return the end of what the job's script and SLURM itself printed."""
    known = read_job(folder)
    return "" if known is None else log_end(known.array / f"{known.job}_0_log.out")
