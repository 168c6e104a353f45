"""What happened in an attempt, one line of JSON per event, appended as it happens; this file is the truth.

A line is `{"e":type,"n":number,"t":unix seconds,...,"c":"checksum"}`. The checksum is CRC-32 over the previous line's
checksum and this line's text, so that a line cannot be changed, added or removed without the rest of the file saying
so. One process writes a file; any number may read it meanwhile.
"""

import errno
import json
import os
import shutil
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokexp.durable import sync_folder

TYPES = frozenset({"started", "resumed", "progress", "metrics", "checkpoint", "done", "failed", "stopped"})
"""All event types."""

SYNCED = frozenset({"started", "checkpoint", "done", "failed", "stopped"})
"""Types that reach the disk before `append` returns; the others may be lost with the machine, not with the process."""

Event = dict[str, Any]

_TAIL = len(b',"c":"00000000"}')
_BLOCK = 1 << 16
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


class EventLog:
    """An open log: of one attempt, or of one sweep.

    Opening an existing file goes on behind its last good line: a line that was being written when the process died is
    cut off; from an altered line on, the file is first copied to `events.damaged-<time>.jsonl`. Both are said in
    `problems`.
    """

    def __init__(self, path: Path, types: frozenset[str] = TYPES, synced: frozenset[str] = SYNCED) -> None:
        """Open for appending; folder and file are made if needed. Raises OSError if that is impossible.

        `types` are the event types that are known, `synced` those that reach the disk before `append` returns.
        """
        self._types, self._synced = types, synced
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        self.path = path
        self.problems: list[str] = []
        self._lock = threading.Lock()
        self._count, self._check = 0, 0
        if not is_new:
            self._take_up()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self._size = os.fstat(self._descriptor).st_size
        if is_new:
            sync_folder(path.parent)

    def append(self, event_type: str, **fields: Any) -> int:
        """Write one event and return its number. Raises ValueError for an unknown type, OSError if the disk is full.

        An event that could not be written whole is not in the file at all.
        """
        if event_type not in self._types:
            raise ValueError(f"no event type {event_type!r}; there are {', '.join(sorted(self._types))}")
        with self._lock:
            number = self._count
            text = _encode({**fields, "n": number, "t": time.time(), "e": event_type}).encode()
            check = zlib.crc32(text, self._check)
            line = b'%b,"c":"%08x"}\n' % (text[:-1], check)
            self._write(line)
            self._count, self._check, self._size = number + 1, check, self._size + len(line)
            if event_type in self._synced:
                os.fsync(self._descriptor)
        return number

    def close(self) -> None:
        """Close the file; nothing can be appended afterwards."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> "EventLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        written = os.write(self._descriptor, line)
        if written != len(line):
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def _take_up(self) -> None:
        found = scan(self.path)
        if found.broken:
            aside = self.path.with_name(f"events.damaged-{time.time_ns()}.jsonl")
            shutil.copyfile(self.path, aside)
            self.problems.append(f"{found.broken}; the whole file is kept as {aside.name}")
        elif found.torn:
            self.problems.append(f"{found.torn}; it was cut off")
        if found.broken or found.torn:
            os.truncate(self.path, found.next_offset)
        self._count, self._check = found.next_number, found.check


@dataclass
class Scan:
    """What was read of a log: events, where to go on, and what is wrong.

    torn: the last line has no end (being written, or its writer died). broken: a line was altered, or lines are gone.
    misplaced: what lay before the given offset is not there any more, so that nothing could be read from it.
    """

    next_offset: int
    events: list[Event] = field(default_factory=list)
    next_number: int = 0
    check: int = 0
    torn: str = ""
    broken: str = ""
    misplaced: bool = False


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int, list[str]]:
    """Return the events from a byte offset on, the offset to go on from, and what is wrong, in words.

    `offset` is 0 or one that was returned earlier. Nothing from an altered line on is returned. A file that is not
    there has no events. Values that are not finite are given as floats.
    """
    found = scan(path, offset)
    return found.events, found.next_offset, [text for text in (found.broken, found.torn) if text]


def scan(path: Path, offset: int = 0) -> Scan:
    """Read a log as `read_events` does, with the kinds of trouble told apart."""
    found = Scan(next_offset=offset)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < offset:
                found.misplaced = True
                found.broken = f"{path} has {size} bytes where it had {offset}: events were removed"
            elif offset == 0 or _before(file, offset, found):
                for line in file:
                    if not _accept(line, path, found):
                        break
    except FileNotFoundError:
        if offset:
            found.broken, found.misplaced = f"{path} is gone", True
    return found


def _before(file: Any, offset: int, found: Scan) -> bool:
    """Take number and checksum over from the line that ends at `offset`."""
    block = b""
    start = offset
    while start > 0 and b"\n" not in block[:-1]:
        start = max(start - _BLOCK, 0)
        file.seek(start)
        block = file.read(offset - start)
    line = block[:-1].rsplit(b"\n", 1)[-1]
    event = _parse(line) if block.endswith(b"\n") else None
    if event is None:
        found.broken = f"{file.name} was altered before byte {offset}: no event ends there"
        found.misplaced = True
        return False
    found.next_number, found.check = int(event["n"]) + 1, int(event["c"], 16)
    file.seek(offset)
    return True


def _accept(line: bytes, path: Path, found: Scan) -> bool:
    if not line.endswith(b"\n"):
        found.torn = f"{path}: the line of event {found.next_number} has no end"
        return False
    event = _parse(line[:-1])
    check = zlib.crc32(line[: -1 - _TAIL] + b"}", found.check)
    if event is None or event.pop("c") != f"{check:08x}":
        found.broken = (
            f"{path}: the line of event {found.next_number} (byte {found.next_offset}) was altered or removed; "
            "nothing from there on is used"
        )
        return False
    found.events.append(event)
    found.next_number, found.check = found.next_number + 1, check
    found.next_offset += len(line)
    return True


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("n"), int) or not isinstance(event.get("c"), str):
        return None
    return event if isinstance(event.get("e"), str) and isinstance(event.get("t"), (int, float)) else None
