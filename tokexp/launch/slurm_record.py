"""What is written down about submitted jobs: `array.json` beside submitit's files, `slurm.json` in attempts' folders.

An array's record is there before sbatch is called, so that a job whose submission was cut short can be found again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tokexp.durable import write_atomic
from tokexp.launch.base import Task
from tokexp.ledger.workspace import Workspace

ARRAY_FILE: Final = "array.json"
JOB_RECORD: Final = "slurm.json"


@dataclass(frozen=True)
class ArrayRecord:
    """One call of sbatch: the attempts in order, the job's or array's id once it is known, and its rules.

    limit, signal_delay: seconds. retries: the restarts that a job allows itself, by cause. requeue: whether SLURM may
    be asked to run the job again.
    """

    cluster: str
    attempts: tuple[str, ...]
    limit: int
    signal_delay: int
    requeue: bool
    retries: Mapping[str, int | None] = field(default_factory=dict)
    job: str | None = None
    created: float = field(default_factory=time.time)

    def job_of(self, attempt: str) -> str:
        """Return the job of one of the attempts; the array's id must be known."""
        assert self.job is not None
        return self.job if len(self.attempts) == 1 else f"{self.job}_{self.attempts.index(attempt)}"


def arrays_folder(workspace: Workspace, name: str) -> Path:
    """Return the folder of everything that was submitted for a run or sweep."""
    return workspace.root / "slurm" / name


def new_array_folder(workspace: Workspace, name: str, kind: str) -> Path:
    """Return the path of a new folder for one call of sbatch; it is not made."""
    return arrays_folder(workspace, name) / f"{kind}-{os.urandom(5).hex()}"


def save_array(folder: Path, record: ArrayRecord) -> None:
    """Write an array's record; the folder is made."""
    write_atomic(folder / ARRAY_FILE, json.dumps(asdict(record)).encode())


def read_array(folder: Path) -> ArrayRecord | None:
    """Return an array's record, or None if there is none that can be read."""
    fields = _json(folder / ARRAY_FILE)
    try:
        return ArrayRecord(**{**fields, "attempts": tuple(fields["attempts"])})
    except (KeyError, TypeError):
        return None


def note_submitted(folder: Path, record: ArrayRecord, job: str, tasks: Sequence[Task]) -> None:
    """Write down that SLURM took an array as `job`, for the array and in each attempt's folder."""
    taken = replace(record, job=job)
    save_array(folder, taken)
    for task in tasks:
        note_job(task.folder, folder, taken, [each.name for each in task.after])


def note_job(attempt: Path, folder: Path, record: ArrayRecord, after: Sequence[str] = ()) -> None:
    """Write down in an attempt's folder which job it is, and the attempts that it waits for."""
    fields = {
        "job": record.job_of(attempt.name), "submitted": time.time(), "cluster": record.cluster,
        "after": list(after), "array": str(folder),
    }  # fmt: skip
    # Seen whole or not at all, but not forced to the disk, for there may be thousands: the array's record is.
    beside = attempt / f".{JOB_RECORD}.{os.getpid()}"
    beside.write_text(json.dumps(fields))
    beside.replace(attempt / JOB_RECORD)


def forget_jobs(attempts: Sequence[Path]) -> None:
    """Remove the records of jobs from attempts whose submission was taken back."""
    for attempt in attempts:
        (attempt / JOB_RECORD).unlink(missing_ok=True)


@dataclass(frozen=True)
class SubmittedJob:
    """An attempt's job, when it was submitted (unix seconds), its array's folder, the attempts that it waits for."""

    job: str
    submitted: float
    array: Path
    after: tuple[str, ...] = ()


def read_job(attempt: Path) -> SubmittedJob | None:
    """Return the job of an attempt, or None if it was not submitted."""
    fields = _json(attempt / JOB_RECORD)
    try:
        after = tuple(str(each) for each in fields["after"])
        return SubmittedJob(str(fields["job"]), float(fields["submitted"]), Path(fields["array"]), after)
    except (KeyError, TypeError, ValueError):
        return None


def all_arrays(workspace: Workspace, name: str) -> Iterator[tuple[Path, ArrayRecord]]:
    """Yield folder and record of everything that was submitted for a run or sweep."""
    for path in arrays_folder(workspace, name).glob(f"*/{ARRAY_FILE}"):
        record = read_array(path.parent)
        if record is not None:
            yield path.parent, record


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
