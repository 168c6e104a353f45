"""Checkpoints that survive what clusters do: written beside and renamed, with a digest; the newest good one is found.

A checkpoint is `step-NNNNNNNNN.pt` (tensors and plain values, read with weights_only) and, in the same name with
`.json`, its size and digest. The note is written last: a file without a matching note does not exist.
"""

import json
from pathlib import Path
from typing import Any

import torch

from tokexp.durable import file_digest, write_atomic, written_whole

KEPT = 2
"""Checkpoints that stay: the newest, and one more in case it turns out damaged."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint and remove all but the newest two. Raises OSError if the disk does not take it."""
    target = folder / f"step-{step:09d}.pt"
    with written_whole(target) as beside:
        torch.save(state, beside)
    note = {"step": step, "size": target.stat().st_size, "digest": file_digest(target)}
    write_atomic(target.with_suffix(".json"), json.dumps(note).encode())
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
            good = target.stat().st_size == said["size"] and file_digest(target) == said["digest"]
        except (OSError, ValueError, KeyError):
            continue
        if good:
            state: dict[str, Any] = torch.load(target, map_location=device, weights_only=True)
            return int(said["step"]), state
    return None
