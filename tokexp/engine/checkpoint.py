"""Checkpoints that survive what clusters do: written beside and renamed, with a digest; the newest good one is found.

A checkpoint is `step-NNNNNNNNN.pt` (tensors and plain values, read with weights_only) and, in the same name with
`.json`, its size and digest. The note is written last: a file without a matching note does not exist.
"""

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

KEPT = 2
"""Checkpoints that stay: the newest, and one more in case it turns out damaged."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint and remove all but the newest two. Raises OSError if the disk does not take it."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{step:09d}.pt"
    _write_synced(target, lambda path: torch.save(state, path))
    note = json.dumps({"step": step, "size": target.stat().st_size, "digest": _digest(target)})
    _write_synced(target.with_suffix(".json"), lambda path: path.write_text(note) and None)
    for old in sorted(folder.glob("step-*.json"))[:-KEPT]:
        old.unlink(missing_ok=True)
        old.with_suffix(".pt").unlink(missing_ok=True)
    return target


def newest_checkpoint(folder: Path, device: torch.device) -> tuple[int, dict[str, Any]] | None:
    """Return step and state of the newest checkpoint whose digest holds; damaged ones are passed over."""
    for note in sorted(folder.glob("step-*.json"), reverse=True):
        target = note.with_suffix(".pt")
        try:
            said = json.loads(note.read_text())
            good = target.stat().st_size == said["size"] and _digest(target) == said["digest"]
        except (OSError, ValueError, KeyError):
            continue
        if good:
            state: dict[str, Any] = torch.load(target, map_location=device, weights_only=True)
            return int(said["step"]), state
    return None


def _digest(path: Path) -> str:
    seen = blake2b(digest_size=20)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            seen.update(chunk)
    return seen.hexdigest()


def _write_synced(target: Path, write: Any) -> None:
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
