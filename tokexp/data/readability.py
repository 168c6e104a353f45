"""Which images of a set cannot be read, and why: found by decoding each of them once, and kept in a note.

The note is a file that holds how far was looked and what was found, so that an interrupted look goes on where it was
and the stages of an experiment look once between them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import shorten

from tokexp.durable import write_atomic
from tokexp.errors import DataError

AT_ONCE = 4096
"""Images between two writes of the note."""

LOOK_SECONDS = 20.0
"""Longest search for further unreadable images once one was met, so that the error names more than that one."""

_NAMED, _REASON = 5, 50
"""How many images a message names, and the characters of why each cannot be read."""

_ADVICE = "or set data.corrupt: skip"

Reasons = Callable[[Sequence[int]], Iterator[str | None]]
"""Positions to, for each in turn, why that image cannot be read; None where it can."""
Looked = Callable[[int, int], None]
"""Told how many images of how many were looked at."""


class UnreadableError(DataError):
    """An image cannot be read; `name` is its file, `reason` says why."""

    def __init__(self, name: str, reason: str) -> None:
        """Take the file and the reason, without what to do about it."""
        super().__init__(f"{name!r}: this image cannot be read ({reason}); repair or remove it, {_ADVICE}")
        self.name, self.reason = name, reason


def unreadable(count: int, reasons: Reasons, note: Path | None = None, looked: Looked | None = None) -> dict[int, str]:
    """Return position to reason of the images, out of `count`, that cannot be read.

    `note` is taken up if it is there, and kept up to date; one of another set, or not as written, is started anew.
    """
    start, found = _taken_up(note, count)
    for first in range(start, count, AT_ONCE):
        positions = range(first, min(first + AT_ONCE, count))
        found |= _found(positions, reasons(positions))
        if note is not None:
            write_atomic(note, json.dumps({"count": count, "looked": positions.stop, "unreadable": found}).encode())
        if looked is not None:
            looked(positions.stop, count)
    return found


def _taken_up(note: Path | None, count: int) -> tuple[int, dict[int, str]]:
    if note is None:
        return 0, {}
    try:
        said = json.loads(note.read_bytes())
        if said["count"] != count or not 0 <= said["looked"] <= count:
            return 0, {}
        return int(said["looked"]), {int(position): str(reason) for position, reason in said["unreadable"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0, {}


def _found(positions: Sequence[int], reasons: Iterator[str | None]) -> dict[int, str]:
    return {place: reason for place, reason in zip(positions, reasons, strict=True) if reason is not None}


def further(first: UnreadableError, names: Sequence[str], reasons: Reasons) -> DataError:
    """Return the error for a set in which `first` cannot be read: how many images cannot, and the first few of them.

    Looks at all images (`names` are their files), or at those that fit into LOOK_SECONDS.
    """
    until, found, looked = time.monotonic() + LOOK_SECONDS, dict[str, str](), 0
    while looked < len(names) and time.monotonic() < until:
        positions = range(looked, min(looked + AT_ONCE // 16, len(names)))
        found |= {names[place]: reason for place, reason in _found(positions, reasons(positions)).items()}
        looked = positions.stop
    beside = [name for name in found if name != first.name]
    if not beside:
        return first
    part = "" if looked == len(names) else f" of the first {looked:,} of"
    count = len(beside) + 1
    # The advice comes first: where a message is cut, it is at its end.
    return DataError(
        f"{count:,} images{part or ' of'} {len(names):,} cannot be read (repair or remove them, {_ADVICE}): "
        f"{_listed(first, found)}"
    )


def _listed(first: UnreadableError, found: Mapping[str, str]) -> str:
    named = {first.name: first.reason, **found}
    some = [f"{name!r} ({shorten(reason, _REASON)})" for name, reason in list(named.items())[:_NAMED]]
    left = len(named) - len(some)
    return ", ".join(some) + (f" and {left:,} more" if left else "")
