"""Attempts that wait in a cluster's queue, seen from any machine: their states, and taking them out."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tokexp.launch.attempts import attempts_of
from tokexp.launch.base import STOP_FILE
from tokexp.launch.slurm_record import read_job
from tokexp.ledger.workspace import Workspace

_WORDS = {"pending": "queued", "running": "running"}


def queued_states(workspace: Workspace, stages: Mapping[str, str]) -> dict[str, str]:
    """Return `queued` or `running` for those of some unfinished stages whose newest attempt SLURM still has.

    stages: key to the state that files tell. A stage whose attempt is alive by its heartbeat is left out.
    """
    jobs = {key: job for key, state in stages.items() if state != "running" and (job := _job_of(workspace, key))}
    if not jobs:
        return {}
    from tokexp.launch.slurm_states import job_states

    states = job_states(sorted(set(jobs.values())))
    return {
        key: _WORDS[states[job].state] for key, job in jobs.items() if job in states and states[job].state in _WORDS
    }


def cancel_queued(workspace: Workspace, keys: Iterable[str]) -> list[str]:
    """Cancel the jobs of these stages that SLURM still has, and return their numbers."""
    folders = {job: folder for key in keys if (folder := _newest(workspace, key)) and (job := _read_job(folder))}
    if not folders:
        return []
    from tokexp.launch.slurm_commands import cancel_jobs
    from tokexp.launch.slurm_states import job_states

    states = job_states(sorted(folders))
    alive = [job for job in folders if job in states and states[job].state in _WORDS]
    for job in alive:
        (folders[job] / STOP_FILE).write_text("cancel")
    cancel_jobs([job for job in alive if states[job].state == "pending"])
    return alive


def _newest(workspace: Workspace, key: str) -> Path | None:
    found = attempts_of(workspace, key)
    return found[-1] if found else None


def _job_of(workspace: Workspace, key: str) -> str | None:
    folder = _newest(workspace, key)
    return None if folder is None else _read_job(folder)


def _read_job(folder: Path) -> str | None:
    known = read_job(folder)
    return None if known is None else known.job
