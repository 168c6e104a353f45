"""The queue as a process that comes later finds it: which attempts SLURM still has, and what became of the others."""

from __future__ import annotations

import getpass
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from tokexp.launch.slurm_record import ArrayRecord, all_arrays, note_job, read_job
from tokexp.launch.slurm_states import JobState, job_states, queue_of
from tokexp.ledger.workspace import Workspace

CUT_SHORT_SECONDS: Final = 60.0
"""Age from which a submission that was begun and not noted is taken for one whose process died."""


class Queue:
    """This user's live jobs, asked for at most once in `seconds`, however many attempts are looked for."""

    def __init__(self, workspace: Workspace, name: str, seconds: float, max_array: int) -> None:
        """Take where and under which name jobs were submitted, and the profile's size of arrays."""
        self._workspace, self._name = workspace, name
        self._seconds, self._max_array = seconds, max_array
        self._asked: float | None = None
        self._live: dict[str, tuple[JobState, str]] | None = None
        self._past: dict[str, JobState] = {}
        self._arrays: dict[str, tuple[Path, ArrayRecord]] | None = None

    def forget(self) -> None:
        """Ask anew at the next question, because something was submitted."""
        self._asked = None

    def job_of(self, folder: Path) -> str | None:
        """Return the job of an attempt: noted, or found in the queue if its submission was cut short."""
        known = read_job(folder)
        return known.job if known is not None else self._found_again(folder)

    def may_have(self, job: str) -> bool:
        """Say whether a job waits or runs; also if SLURM does not answer."""
        live = self._now()
        return live is None or job in live

    def past(self, job: str) -> JobState:
        """Return the state of a job that is not live; a whole array is asked for at once."""
        if job not in self._past:
            base, is_element, _ = job.partition("_")
            neighbours = [f"{base}_{index}" for index in range(self._max_array)] if is_element else []
            self._past.update(job_states([job, *neighbours]))
        return self._past[job]

    def _now(self) -> dict[str, tuple[JobState, str]] | None:
        if self._asked is None or time.monotonic() - self._asked > self._seconds:
            self._asked, self._past = time.monotonic(), {}
            self._live = queue_of(getpass.getuser())
        return self._live

    def _found_again(self, folder: Path) -> str | None:
        """Return the job of an attempt that does not know it, because its submission was cut short."""
        if self._arrays is None:
            known = list(all_arrays(self._workspace, self._name))
            self._arrays = {attempt: array for array in known for attempt in array[1].attempts}
        place, record = self._arrays.get(folder.name, (None, None))
        if place is None or record is None:
            return None
        if record.job is None and time.time() - record.created > CUT_SHORT_SECONDS:
            record = replace(record, job=self._array_from(place))
        if record.job is None:
            return None
        note_job(folder, place, record)
        return record.job_of(folder.name)

    def _array_from(self, place: Path) -> str | None:
        """Return the id of the job or array whose script lies in a folder, if it is still in the queue."""
        live = (self._now() or {}).items()
        return next((job.partition("_")[0] for job, (_, script) in live if Path(script).parent == place), None)
