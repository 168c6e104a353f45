"""A small job that drives a sweep, so that nobody's login session has to; near its time limit it requeues itself."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Final

from tokexp.durable import write_atomic
from tokexp.launch.base import STOPPED
from tokexp.launch.display import Quiet
from tokexp.launch.slurm_commands import cancel_pending, requeue, show_job
from tokexp.launch.slurm_group import Member
from tokexp.launch.slurm_job import remove_leftovers
from tokexp.launch.slurm_record import arrays_folder, new_array_folder
from tokexp.launch.slurm_states import LIVE, job_states
from tokexp.launch.slurm_submission import parameters, send
from tokexp.ledger.workspace import Workspace
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.resources import Resources

TRACKING_SECONDS: Final = 30.0
"""How long the end waits for MLflow to be brought up to date."""

_KIND = "driver"
_RESOURCES = Resources(cpus=1, device="cpu")


def submit_driver(cluster: ClusterSpec, workspace: Workspace, ref: str) -> str:
    """Submit a job that drives a sweep, and return its id; one that is in the queue already is left to do it.

    Raises InputError if SLURM refuses it.
    """
    before = _noted(workspace, ref)
    if before is not None and job_states([before])[before].state in LIVE:
        return before
    return _submit(cluster, workspace, ref)


def cancel_driver(workspace: Workspace, ref: str) -> None:
    """Take a sweep's driver out of the queue if it waits there; one that runs sees that the sweep was cancelled."""
    job = _noted(workspace, ref)
    if job is not None:
        cancel_pending([job])


def drive(workspace: str, ref: str) -> None:
    """Drive a sweep until it is complete or cancelled. A job whose time is up goes back into the queue."""
    from tokexp.launch.driving import cluster_of, go_on
    from tokexp.launch.slurm import SlurmLauncher
    from tokexp.ledger.sweeps import read_trials, sweep_folder
    from tokexp.tracking.live import start_live

    remove_leftovers()
    place, warned = Workspace(Path(workspace)), list[int]()
    record = read_trials(sweep_folder(place, ref)).record
    cluster = cluster_of(record)

    def leave(number: int, frame: object) -> None:
        warned.append(number)
        signal.raise_signal(signal.SIGTERM)  # The controller leaves in good order on this one.

    signal.signal(signal.SIGUSR2, leave)
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    tracking = start_live(place, ref, record.track.get("uri")) if record.track.get("enabled", True) else None
    try:
        with SlurmLauncher(cluster, place, ref, _write) as launcher:
            outcome = go_on(place, ref, launcher, Quiet(), stay=True)
    finally:
        if tracking is not None:
            tracking.finish(TRACKING_SECONDS)
    if not outcome.complete and not outcome.interrupted:
        _again(cluster, place, ref, warned=bool(warned))


def _again(cluster: ClusterSpec, workspace: Workspace, ref: str, *, warned: bool) -> None:
    """Have the sweep driven on later, unless somebody cancelled this job: that is not undone."""
    job = Member.here().job
    if (warned or show_job(job).get("JobState") == "RUNNING") and not requeue(job).answered:
        _submit(cluster, workspace, ref)
    raise SystemExit(STOPPED)


def _submit(cluster: ClusterSpec, workspace: Workspace, ref: str) -> str:
    given, root = parameters(cluster, _KIND, _RESOURCES, f"{ref}.{_KIND}"), str(workspace.root.absolute())
    job = send(cluster, new_array_folder(workspace, ref, _KIND), given, drive, [root], [ref])
    write_atomic(_marker(workspace, ref), json.dumps({"job": job}).encode())
    return job


def _marker(workspace: Workspace, ref: str) -> Path:
    return arrays_folder(workspace, ref) / "driver.json"


def _noted(workspace: Workspace, ref: str) -> str | None:
    try:
        return str(json.loads(_marker(workspace, ref).read_bytes())["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(message: str) -> None:
    sys.stderr.write(message + "\n")
