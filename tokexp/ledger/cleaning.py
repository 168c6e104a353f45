"""Removal of what nothing needs any more. What a live claim holds, or reads, is never touched."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tokexp.durable import folder_bytes
from tokexp.errors import DamagedError, InputError
from tokexp.ledger.claims import LEASE_S, claim_lock, holder
from tokexp.ledger.locks import file_lock
from tokexp.ledger.outputs import is_done
from tokexp.ledger.runs import read_runs
from tokexp.ledger.sweeps import read_trials
from tokexp.ledger.workspace import Workspace
from tokexp.storage.decoded import cache_folder, unused

What = Literal["work", "leftover", "damaged", "output", "decoded"]
"""work: checkpoints of a finished stage; leftover: an output that a dead attempt was writing; damaged: an output that
was set aside; output: a finished output that no run names; decoded: an array of tokens not opened for a week."""

_KEY = re.compile(r"[0-9a-f]{8,}")


@dataclass(frozen=True)
class Removal:
    """One thing that goes: what it is, where, and its bytes."""

    what: What
    path: Path
    bytes: int


@dataclass
class Cleaned:
    """What was removed (or would be), and what was left alone for a reason worth saying."""

    removed: list[Removal] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Bytes of all that is removed."""
        return sum(item.bytes for item in self.removed)


def gc(workspace: Workspace, dry_run: bool = False) -> Cleaned:
    """Remove checkpoints of finished stages, leftovers of dead attempts, damaged outputs, and outputs of no run.

    Also arrays of decoded tokens in this machine's cache that nobody opened for a week.

    With `dry_run` nothing is changed. Raises InputError if the folder is not a workspace.
    """
    workspace.check()
    if not (workspace.root / "workspace.json").is_file():
        raise InputError(f"{workspace.root} is not a workspace (it has no workspace.json); nothing was removed")
    cleaned = Cleaned()
    held = _held_keys(workspace)
    for find in (_work, _leftovers, _damaged, _outputs, _decoded):
        for what, path, key in find(workspace, held, cleaned.kept):
            _remove(workspace, what, path, key, dry_run, cleaned)
    return cleaned


Found = Iterator[tuple[What, Path, str | None]]
"""What it is, its path, and the key whose claim must be free for it to go."""


def _work(workspace: Workspace, held: set[str], kept: list[str]) -> Found:
    for key in workspace.work_keys():
        output = workspace.find_output(key) if _KEY.fullmatch(key) else None
        if output is not None and is_done(output) and key not in held:
            yield "work", workspace.work(key), key


def _leftovers(workspace: Workspace, held: set[str], kept: list[str]) -> Found:
    for path in _children(workspace.tmp):
        key, _, attempt = path.name.partition(".")
        if not attempt or not (_KEY.fullmatch(key) or key == "ledger"):
            continue
        claim = holder(workspace, key)
        is_live = claim is not None and claim.alive and claim.attempt == attempt
        if not is_live and time.time() - _touched(path) > LEASE_S:
            yield "leftover", path, None


def _damaged(workspace: Workspace, held: set[str], kept: list[str]) -> Found:
    for path in _children(workspace.damaged):
        if path.name.count(".") == 2:
            yield "damaged", path, None


def _outputs(workspace: Workspace, held: set[str], kept: list[str]) -> Found:
    records, problems = read_runs(workspace)
    if problems:
        kept.append(f"all outputs, since it is not known what these runs need: {'; '.join(problems)}")
        return
    try:
        sweeps = [read_trials(file.parent) for file in sorted(workspace.sweeps.glob("*/sweep.json"))]
    except DamagedError as error:
        kept.append(f"all outputs, since it is not known what this sweep needs: {error}")
        return
    needed = held.union(*(record.keys() for record in records), *(sweep.nodes.keys() for sweep in sweeps))
    for _, key, path in workspace.outputs():
        if key not in needed and _KEY.fullmatch(key):
            yield "output", path, key


def _decoded(workspace: Workspace, held: set[str], kept: list[str]) -> Found:
    # They belong to the machine and to all of its workspaces; a process that has one mapped keeps it to its end.
    for path in unused(cache_folder()):
        yield "decoded", path, None


def _held_keys(workspace: Workspace) -> set[str]:
    """Return the keys that live attempts work on, and those of their inputs."""
    held: set[str] = set()
    for key in workspace.work_keys():
        claim = holder(workspace, key)
        if claim is None or not claim.alive:
            continue
        held.add(key)
        try:
            job = json.loads((workspace.attempts / claim.attempt / "job.json").read_bytes())
            held.update(str(value) for value in job["inputs"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return held


def _remove(workspace: Workspace, what: What, path: Path, key: str | None, dry_run: bool, cleaned: Cleaned) -> None:
    size = folder_bytes(path)
    if not dry_run and not _removed(workspace, what, path, key):
        cleaned.kept.append(f"{path}: it is in use")
        return
    cleaned.removed.append(Removal(what, path, size))


def _removed(workspace: Workspace, what: What, path: Path, key: str | None) -> bool:
    if key is None:
        _delete(path)
        return True
    with file_lock(claim_lock(workspace, key)):
        claim = holder(workspace, key)
        if claim is not None and claim.alive:
            return False
        _take_away(workspace, path) if what == "output" else _delete(path)
    if what == "output":
        _drop_empty_work(workspace, key)
    return True


def _take_away(workspace: Workspace, output: Path) -> None:
    # Renamed first: an output that is half deleted must not be taken for one.
    target = workspace.tmp / f"{output.name}.gc-{time.time_ns()}"
    workspace.tmp.mkdir(exist_ok=True)
    output.rename(target)
    _delete(target)


def _drop_empty_work(workspace: Workspace, key: str) -> None:
    work = workspace.work(key)
    with file_lock(claim_lock(workspace, key)) as lock:
        if [path for path in work.iterdir() if path != lock] == []:
            _delete(work)


def _delete(path: Path) -> None:
    delete: Callable[[Path], None] = shutil.rmtree if path.is_dir() and not path.is_symlink() else Path.unlink
    try:
        delete(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"cannot remove {path}: {error.strerror}") from error


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _touched(path: Path) -> float:
    """Return when anything in a folder was last written."""
    newest = 0.0
    for entry in (path, *path.rglob("*")):
        try:
            newest = max(newest, entry.lstat().st_mtime)
        except OSError:
            continue
    return newest
