"""Finished outputs of stages: written beside, synced, renamed into place, and then marked DONE.

`manifest.json` holds the size and digest of every file and the record of how the output came about; `DONE` holds the
manifest's digest. A folder without a `DONE` that fits its manifest does not count, whatever else is in it.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tokexp.durable import file_digest, is_disk_full, sync_file, sync_folder, write_synced
from tokexp.errors import DamagedError, StageError
from tokexp.ledger.workspace import Workspace
from tokexp.spec.stages import VERSIONS, StageJob

MANIFEST, DONE, RESULT = "manifest.json", "DONE", "result.json"

_PENDING = ".DONE"  # the mark, written before the rename so that a full disk cannot come between rename and mark


@contextmanager
def stage_output(workspace: Workspace, kind: str, key: str, attempt: str) -> Iterator[Path]:
    """Yield an empty folder for an output; `publish` moves it into place, and what was not published is removed.

    Raises StageError ("disk full") in place of whatever error a full disk led to.
    """
    folder = workspace.tmp / f"{key}.{attempt}"
    try:
        workspace.create()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    except Exception as error:
        if is_disk_full(error, workspace.root):
            raise StageError(
                f"disk full while writing the output of the {kind} stage {key[:12]} below {workspace.root}; "
                "free some space (`tokexp gc` shows what can go) and retry"
            ) from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(temp: Path, final: Path, record: Mapping[str, Any]) -> bool:
    """Make everything in `temp` durable and move it to `final`, with its manifest.

    Returns False, and discards `temp`, if a sound output of another attempt is there already. A damaged one is set
    aside. Raises StageError on a full disk; nothing is visible then.
    """
    try:
        _seal(temp, record)
        final.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(3):
            if _moved(temp, final):
                sync_folder(final.parent)
                sync_folder(final.parent.parent)
                _mark(final)
                return True
            if complete(final) and not verify(final):
                shutil.rmtree(temp)
                return False
            set_aside(final)
    except OSError as error:
        if is_disk_full(error, temp):
            raise StageError(f"disk full while publishing {final}; free some space and retry") from error
        raise
    raise StageError(f"{final} is occupied and cannot be moved away; remove it and retry")


def is_done(folder: Path) -> bool:
    """Tell whether an output is finished: its DONE fits its manifest. The files are not read; `verify` does that."""
    try:
        return (folder / DONE).read_text().strip() == _digest((folder / MANIFEST).read_bytes())
    except (OSError, UnicodeDecodeError):
        return False


def complete(folder: Path) -> bool:
    """Tell whether an output is finished, after finishing one that a crash left between its rename and its mark."""
    if is_done(folder):
        return True
    if not (folder / _PENDING).exists() or _problems(folder, _PENDING):
        return is_done(folder)
    _mark(folder)
    return is_done(folder)


def verify(folder: Path) -> list[str]:
    """Return what is wrong with a finished output, in words, after reading every byte of it; empty if nothing is."""
    return _problems(folder, DONE)


def set_aside(folder: Path) -> Path | None:
    """Move a damaged output of the store to `damaged/`, so that its stage is computed again; return where it is now.

    Returns None if it was gone already, or sound: of two processes that found it damaged, the slower one might meet
    the output that has replaced it.
    """
    target = folder.parents[3] / "damaged" / f"{folder.parents[1].name}.{folder.name}.{os.urandom(4).hex()}"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(target)
    except FileNotFoundError:
        return None
    if not verify(target) and _moved(target, folder):
        return None
    sync_folder(folder.parent)
    return target


def job_record(job: StageJob, attempt: str, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record that an output's manifest keeps of the job that made it."""
    kind = job.payload.kind
    return {
        "kind": kind,
        "key": job.key,
        "version": VERSIONS[kind],
        "payload": job.payload.model_dump(mode="json"),
        "inputs": dict(job.inputs),
        "fingerprint": job.fingerprint,
        "seed": job.seed,
        "label": job.label,
        "attempt": attempt,
        "provenance": dict(provenance),
    }


def write_result(folder: Path, metrics: Mapping[str, float], facts: Mapping[str, Any]) -> None:
    """Write `result.json`: what a stage found out. Numbers that are not finite are written as Python reads them."""
    values = {name: float(value) for name, value in metrics.items()}
    write_synced(folder / RESULT, json.dumps({"metrics": values, "facts": dict(facts)}, indent=1).encode())


def read_result(folder: Path) -> dict[str, Any]:
    """Return {"metrics": {...}, "facts": {...}} of an output. Raises DamagedError if it is missing or unreadable."""
    return _read_json(folder / RESULT)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record that was given to `publish`. Raises DamagedError if the manifest is missing or unreadable."""
    record: dict[str, Any] = _read_json(folder / MANIFEST).get("record", {})
    return record


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        why = (error.strerror or "unreadable") if isinstance(error, OSError) else "it is not JSON"
        raise DamagedError(f"{path} is missing or unreadable ({why}); `tokexp doctor` says what to do") from error
    if not isinstance(found, dict):
        raise DamagedError(f"{path} does not hold a mapping; `tokexp doctor` says what to do")
    return found


def _seal(temp: Path, record: Mapping[str, Any]) -> None:
    for name in (MANIFEST, DONE, _PENDING):
        (temp / name).unlink(missing_ok=True)
    files = {}
    for name, path in _files(temp).items():
        if path.is_symlink() or not path.is_file():
            raise StageError(f"the output holds {name}, which is not a plain file; outputs must stand alone")
        sync_file(path)
        files[name] = {"size": path.stat().st_size, "blake2b": file_digest(path)}
    manifest = json.dumps({"layout": 1, "files": files, "record": dict(record)}, indent=1, sort_keys=True).encode()
    write_synced(temp / MANIFEST, manifest)
    write_synced(temp / _PENDING, _digest(manifest).encode())
    for folder in sorted((path for path in temp.rglob("*") if path.is_dir()), reverse=True):
        sync_folder(folder)
    sync_folder(temp)


def _moved(source: Path, target: Path) -> bool:
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True


def _mark(final: Path) -> None:
    try:
        (final / _PENDING).rename(final / DONE)
    except FileNotFoundError:
        # another attempt found the folder complete and has marked it
        if not is_done(final):
            raise
    sync_folder(final)


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=32).hexdigest()


def _files(folder: Path) -> dict[str, Path]:
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix(): path for path in sorted(found)}


def _problems(folder: Path, mark: str) -> list[str]:
    if not folder.is_dir():
        return [f"{folder} is missing"]
    present = _files(folder)
    for name in (mark, MANIFEST):
        if name not in present:
            return [f"{name} is missing"]
    try:
        content = (folder / MANIFEST).read_bytes()
        if (folder / mark).read_bytes().strip() != _digest(content).encode():
            return [f"{MANIFEST} was altered: its digest is not the one in {mark}"]
        listed: dict[str, Any] = json.loads(content)["files"]
    except (OSError, ValueError, KeyError) as error:
        return [f"{MANIFEST} is unreadable: {error}"]
    extra = [f"{name} is not in the manifest" for name in present if name not in {*listed, MANIFEST, mark}]
    return [text for name, said in listed.items() if (text := _problem(present.get(name), name, said))] + extra


def _problem(path: Path | None, name: str, said: Mapping[str, Any]) -> str:
    if path is None:
        return f"{name} is missing"
    try:
        size = path.stat().st_size
        if size != said["size"]:
            return f"{name} has {size} bytes instead of {said['size']}"
        return "" if file_digest(path) == said["blake2b"] else f"{name} was altered: its digest differs"
    except OSError as error:
        return f"{name} is unreadable: {error.strerror}"
