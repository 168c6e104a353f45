"""Sending tasks to SLURM: what waits for what, one sbatch call for each array, and a record of each."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokexp.launch.base import Task
from tokexp.launch.slurm_arrays import JobArray, dependency, plan_arrays
from tokexp.launch.slurm_commands import cancel_jobs
from tokexp.launch.slurm_ends import is_met
from tokexp.launch.slurm_job import run_attempt
from tokexp.launch.slurm_record import (
    ArrayRecord,
    arrays_folder,
    forget_jobs,
    new_array_folder,
    note_submitted,
    read_job,
    save_array,
)
from tokexp.launch.slurm_states import LIVE, job_states
from tokexp.launch.slurm_submission import limit_of, parameters, script, send
from tokexp.ledger.workspace import Workspace
from tokexp.plan.graph import StageNode
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.resources import Resources


@dataclass(frozen=True)
class Sent:
    """What became of tasks: their jobs, and those that wait for something that has failed and were not submitted."""

    jobs: dict[Path, str]
    hopeless: set[Path]


def send_tasks(tasks: Sequence[Task], cluster: ClusterSpec, workspace: Workspace, name: str) -> Sent:
    """Submit tasks as arrays and chains, all or none. Raises InputError with SLURM's own words if it refuses one."""
    outside, hopeless = _outside(tasks)
    arrays = plan_arrays([task for task in tasks if task.folder not in hopeless], outside, cluster.max_array)
    for array in arrays:  # A profile that cannot be used is found before the first job goes out.
        _parameters(array, cluster, name, None)
    ids: list[str] = []
    folders = [new_array_folder(workspace, name, array.tasks[0].kind) for array in arrays]
    try:
        for array, folder in zip(arrays, folders, strict=True):
            needs = dependency(array, [len(each.tasks) for each in arrays], ids)
            ids.append(_send(array, _parameters(array, cluster, name, needs), cluster, folder))
    except BaseException:
        _take_back(arrays, ids, folders)
        raise
    jobs = {
        task.folder: job if len(array.tasks) == 1 else f"{job}_{index}"
        for array, job in zip(arrays, ids, strict=True)
        for index, task in enumerate(array.tasks)
    }
    return Sent(jobs, hopeless)


def dry_run(nodes: Sequence[StageNode], cluster: ClusterSpec, workspace: Workspace, name: str) -> str:
    """Return the scripts that stages would be submitted by, one behind the other; nothing is written or submitted.

    The first job has the id 1, and so on.
    """
    folders = {node.key: workspace.attempt(f"{node.key[:10]}-next") for node in nodes}
    tasks = [
        Task(
            folders[node.key], fitted(cluster, node.kind, node.resources), node.kind, node.name,
            tuple(folders[key] for key in node.inputs.values() if key in folders),
        )
        for node in nodes
    ]  # fmt: skip
    arrays = plan_arrays(tasks, {}, cluster.max_array)
    texts = []
    for number, array in enumerate(arrays, start=1):
        needs = dependency(array, [len(each.tasks) for each in arrays], [str(each) for each in range(1, number)])
        folder = arrays_folder(workspace, name) / f"{array.tasks[0].kind}-{number}"
        given = _parameters(array, cluster, name, needs)
        names = dict.fromkeys(task.name for task in array.tasks)
        texts.append(
            f"# job {number}: {len(array.tasks)} x {', '.join(names)}\n"
            + script(cluster, folder, given, len(array.tasks)).rstrip("\n")
        )
    return "\n\n".join(texts) + "\n"


def fitted(cluster: ClusterSpec, kind: str, asked: Resources) -> Resources:
    """Return what a profile gives a stage of this kind that asks for `asked`."""
    return cluster.resources_for(kind, asked)  # type: ignore[arg-type]


def _parameters(array: JobArray, cluster: ClusterSpec, name: str, needs: str | None) -> dict[str, Any]:
    first = array.tasks[0]
    return parameters(cluster, first.kind, first.resources, f"{name}.{first.kind}", needs, len(array.tasks))


def _take_back(arrays: Sequence[JobArray], ids: Sequence[str], folders: Sequence[Path]) -> None:
    cancel_jobs(ids)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for array in arrays:
        forget_jobs([task.folder for task in array.tasks])


def _send(array: JobArray, given: dict[str, Any], cluster: ClusterSpec, folder: Path) -> str:
    resources, attempts = array.tasks[0].resources, [task.folder for task in array.tasks]
    record = ArrayRecord(
        cluster.name, tuple(attempt.name for attempt in attempts), limit_of(cluster, resources),
        cluster.signal_delay, cluster.requeue, resources.retries.model_dump(),
    )  # fmt: skip
    save_array(folder, record)
    job = send(cluster, folder, given, run_attempt, [str(attempt) for attempt in attempts])
    note_submitted(folder, record, job, array.tasks)
    return job


def _outside(tasks: Sequence[Task]) -> tuple[dict[Path, str], set[Path]]:
    """Return the live jobs of earlier submissions that tasks wait for, and the tasks that wait for what has failed."""
    own = {task.folder for task in tasks}
    others = {each for task in tasks for each in task.after if each not in own and not is_met(each)}
    jobs = {each: known.job for each in others if (known := read_job(each)) is not None}
    states = job_states(jobs.values())
    alive = {each: job for each, job in jobs.items() if states[job].state in LIVE | {"unknown"}}
    # One that ended between the two looks may have ended well.
    failed = {each for each in others - alive.keys() if not is_met(each)}
    waiting = {task.folder for task in tasks if failed & set(task.after)}
    while more := {task.folder for task in tasks if waiting & set(task.after)} - waiting:
        waiting |= more
    return alive, waiting
