"""Handing stages to a launcher: those that can run now, or a whole plan where the launcher waits by itself."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokexp.launch.attempts import Tail, new_attempt
from tokexp.launch.base import Handle, Launcher, Task
from tokexp.launch.work import Work, stage_job
from tokexp.ledger.workspace import Workspace


def submit(
    ready: Sequence[Work], waiting: Sequence[Work], works: Mapping[str, Work], workspace: Workspace,
    launcher: Launcher, name: str,
) -> list[Work]:  # fmt: skip
    """Submit new attempts and return the stages that have one now.

    ready: stages that can run. waiting: all that are to do, inputs before what needs them; a launcher that sends plans
    whole gets those of them too whose inputs it knows. If the launcher refuses, no attempt's folder is left. Raises
    TokexpError with its reason.
    """
    chosen = _with_dependents(ready, waiting, works, launcher) if launcher.sends_whole else {id(w): w for w in ready}
    tasks: dict[int, Task] = {}
    folders: dict[str, Path] = {}
    try:
        for number, work in chosen.items():
            node = work.node
            after = tuple(
                folders[key] if key in folders else _folder_of(works[key]) for key in _open_inputs(work, works)
            )
            folders[node.key] = new_attempt(workspace, stage_job(node, workspace, name, work.allowance))
            tasks[number] = Task(folders[node.key], node.resources, node.kind, node.name, after)
        handles = launcher.submit_many(list(tasks.values()))
    except BaseException:
        for folder in folders.values():
            if launcher.adopt(folder) is None:
                shutil.rmtree(folder, ignore_errors=True)
        raise
    return [_started(work, handle) for work, handle in zip(chosen.values(), handles, strict=True)]


def _started(work: Work, handle: Handle) -> Work:
    work.handle, work.tail = handle, Tail(handle.folder)
    return work


def _open_inputs(work: Work, works: Mapping[str, Work]) -> list[str]:
    return [key for key in work.node.inputs.values() if works[key].state != "done"]


def _folder_of(work: Work) -> Path:
    assert work.tail is not None
    return work.tail.folder


def _with_dependents(
    ready: Sequence[Work], waiting: Sequence[Work], works: Mapping[str, Work], launcher: Launcher
) -> dict[int, Work]:
    free = {id(work) for work in ready}
    chosen: dict[int, Work] = {}
    for work in waiting:
        inputs = [works[key] for key in _open_inputs(work, works)]
        if id(work) in free or (inputs and all(id(each) in chosen or _is_known(each, launcher) for each in inputs)):
            chosen[id(work)] = work
    return chosen


def _is_known(work: Work, launcher: Launcher) -> bool:
    """Say whether the launcher's own scheduler has the stage's present attempt, so that others can wait for it."""
    return work.tail is not None and (work.handle is not None or launcher.adopt(work.tail.folder) is not None)
