"""The SLURM launcher: plans go out whole, as arrays and chains of jobs; afterwards no process of ours has to live.

What was submitted stands in the attempts' folders, so that any later process on any machine of the cluster takes it
up. Jobs that are preempted or run out of time go back into the queue by themselves (`slurm_job`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from tokexp.launch.base import JOB_FILE, STOP_FILE, Ended, Handle, Launcher, Task
from tokexp.launch.slurm_commands import cancel_jobs, cancel_pending, terminate
from tokexp.launch.slurm_driver import submit_driver
from tokexp.launch.slurm_ends import end_of, has_ended
from tokexp.launch.slurm_queue import Queue
from tokexp.launch.slurm_sending import dry_run, fitted, send_tasks
from tokexp.launch.slurm_states import JobState, job_states
from tokexp.launch.work import note_end
from tokexp.ledger.workspace import Workspace
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.resources import Resources

__all__ = ["SlurmLauncher", "dry_run", "submit_driver"]

LOOK_SECONDS: Final = 1.0
"""Least time between two questions to SLURM's controller."""

LOST_SECONDS: Final = 10.0
"""How long a job has to be unknown to the queue, as accounting is told of ends with a delay."""

_HELD = ("JobHeld", "job_requeued_in_held", "launch_failed_requeued_held")


class SlurmLauncher(Launcher):
    """Submits attempts to SLURM and says what becomes of them."""

    sends_whole = True

    def __init__(
        self, cluster: ClusterSpec, workspace: Workspace, name: str, warn: Callable[[str], None] = lambda message: None
    ) -> None:
        """Take a cluster's profile, the workspace, the run's or sweep's name, and where warnings go."""
        self.poll_seconds = float(cluster.poll)
        self._cluster, self._workspace, self._name, self._warn = cluster, workspace, name, warn
        self._jobs: dict[Handle, str] = {}
        self._ended: list[Ended] = []
        self._cancelled: dict[str, bool] = {}
        self._looked = time.monotonic() - LOOK_SECONDS
        self._queue = Queue(workspace, name, self.poll_seconds, cluster.max_array)
        self._missing: dict[str, float] = {}
        self._warned: set[str] = set()

    def fitted(self, kind: str, asked: Resources) -> Resources:
        """Return what the profile gives a stage of this kind."""
        return fitted(self._cluster, kind, asked)

    def submit(self, folder: Path, resources: Resources) -> Handle:
        """Submit one attempt."""
        kind = json.loads((folder / JOB_FILE).read_text())["payload"]["kind"]
        return self.submit_many([Task(folder, resources, kind, kind)])[0]

    def submit_many(self, tasks: Sequence[Task]) -> list[Handle]:
        """Submit attempts as arrays and chains; what comes after something that failed is reported as ended.

        Raises InputError if SLURM refuses; nothing of the list is left in its queue then.
        """
        sent = send_tasks(tasks, self._cluster, self._workspace, self._name)
        self._queue.forget()
        self._jobs.update({Handle(folder): job for folder, job in sent.jobs.items()})
        for folder in sent.hopeless:
            end = end_of(Handle(folder), JobState("dependency"))
            self._ended += [] if end is None else [end]
        return [Handle(task.folder) for task in tasks]

    def adopt(self, folder: Path) -> Handle | None:
        """Return a handle if SLURM has the attempt's job; if it had, the end is noted as far as SLURM knows it."""
        handle = Handle(folder)
        if handle in self._jobs:
            return handle
        job = self._queue.job_of(folder)
        if job is None or has_ended(folder):
            return None
        if self._queue.may_have(job):
            self._jobs[handle] = job
            return handle
        end = end_of(handle, self._queue.past(job))
        if end is None:
            self._jobs[handle] = job
            return handle
        _note(end)
        return None

    def poll(self) -> list[Ended]:
        """Return what ended. SLURM is asked once for all jobs, and not more often than once in a second."""
        self._send_cancellations()
        if self._jobs and time.monotonic() - self._looked >= LOOK_SECONDS:
            self._look()
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """Take a waiting attempt out of the queue, ask a running one to save and stop, or end it now (`force`).

        SLURM is told of all of them at once by the next `poll`, or by `close`.
        """
        marker = handle.folder / STOP_FILE
        if not marker.exists():
            marker.write_text("cancel")
        if handle in self._jobs:
            self._cancelled[self._jobs[handle]] = force

    def close(self) -> None:
        """Let go of everything; jobs stay in the queue."""
        self._send_cancellations()
        self._jobs.clear()

    def _look(self) -> None:
        states = job_states(self._jobs.values())
        self._looked = time.monotonic()
        ends = [end_of(handle, states[job]) for handle, job in self._jobs.items() if self._is_sure(job, states)]
        over = [end for end in ends if end is not None]
        # Without kill_invalid_dependency they would wait for ever.
        cancel_jobs(self._jobs[end.handle] for end in over if states[self._jobs[end.handle]].state == "dependency")
        for end in over:
            _note(end)
            del self._jobs[end.handle]
        self._ended += over

    def _is_sure(self, job: str, states: Mapping[str, JobState]) -> bool:
        self._warn_of(job, states[job])
        if states[job].state != "lost":
            self._missing.pop(job, None)
            return True
        return self._looked - self._missing.setdefault(job, self._looked) >= LOST_SECONDS

    def _send_cancellations(self) -> None:
        asked, self._cancelled = self._cancelled, {}
        forced = [job for job, force in asked.items() if force]
        gentle = [job for job, force in asked.items() if not force]
        if forced:
            cancel_jobs(forced)
        if gentle:
            cancel_pending(gentle)
            # A signal to jobs that have not begun is tried again for minutes.
            states = job_states(gentle)
            terminate(job for job in gentle if states[job].state == "running")

    def _warn_of(self, job: str, state: JobState) -> None:
        message = ""
        if state.state == "unknown":
            message = f"SLURM does not answer ({state.reason}); results and failures are still seen"
        elif state.state == "pending" and state.reason.startswith(_HELD):
            message = f"job {job} is held ({state.reason}); `scontrol release {job}` lets it go on"
        if message and message not in self._warned:
            self._warned.add(message)
            self._warn(message)


def _note(end: Ended) -> None:
    if end.cause is not None:
        note_end(end.handle.folder, end.cause, end.message)
