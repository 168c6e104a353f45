"""Attempts on disk: making a folder for a new one, following what it writes, reading why it ended."""

import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tokexp.durable import write_atomic
from tokexp.errors import InputError
from tokexp.launch.base import EVENTS_FILE, JOB_FILE, LOG_FILE, STOP_FILE
from tokexp.launch.recovery import Cause
from tokexp.ledger.claims import holder
from tokexp.ledger.events import Event, read_events
from tokexp.ledger.workspace import Workspace
from tokexp.spec.stages import StageJob

_PREFIX = 10
"""Digits of a stage key that its attempts' names begin with."""

START_SECONDS = 60.0
"""Age up to which an attempt that has not said a word may be a process that is still being started."""

_LAST = frozenset({"done", "failed", "stopped"})
_RESTARTED: Final[Mapping[str | None, Cause]] = {None: "lost", "timeout": "timeout", "preempted": "preempted"}


def attempts_of(workspace: Workspace, key: str) -> list[Path]:
    """Return the folders of all attempts at a stage, oldest first."""
    found: list[Path] = []
    # Names are tried one by one: a listing of a folder with thousands of attempts would cost more for every stage.
    while (folder := _folder(workspace, key, len(found) + 1)).is_dir():
        found.append(folder)
    return found


def _folder(workspace: Workspace, key: str, number: int) -> Path:
    return workspace.attempt(f"{key[:_PREFIX]}-{number:03d}")


def new_attempt(workspace: Workspace, job: StageJob) -> Path:
    """Make the folder of a new attempt, with its `job.json`; no two callers get the same.

    Raises InputError if the workspace cannot be written to.
    """
    workspace.create().attempts.mkdir(exist_ok=True)
    number = len(attempts_of(workspace, job.key)) + 1
    while True:
        folder = _folder(workspace, job.key, number)
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            continue
        except OSError as error:
            raise InputError(f"cannot make {folder}: {error.strerror}; free some space or check its rights") from error
        write_atomic(folder / JOB_FILE, job.model_dump_json(indent=1).encode())
        return folder


@dataclass
class Tail:
    """Follows the events of one attempt. `last` is its final event, `step` its newest checkpoint's step.

    `begun`: it has started at least once. `restarts` are the earlier ends of an attempt that its scheduler ran again:
    why, and the step at that time.
    """

    folder: Path
    last: Event | None = None
    step: int | None = None
    problems: list[str] = field(default_factory=list)
    restarts: list[tuple[Cause, int | None]] = field(default_factory=list)
    begun: bool = False
    _offset: int = 0

    def read(self) -> list[Event]:
        """Return the events since the last call; cheap when there are none."""
        path = self.folder / EVENTS_FILE
        try:
            if path.stat().st_size == self._offset:
                return []
        except OSError:
            return []
        events, self._offset, self.problems = read_events(path, self._offset)
        for event in events:
            if event["e"] == "started":
                self._note_start()
            if event["e"] == "checkpoint":
                self.step = max(self.step or 0, int(event["step"]))
            # A retried append may follow a final event only in an attempt that was started again.
            self.last = event if event["e"] in _LAST else None
        return events

    def _note_start(self) -> None:
        reason = None if self.last is None else self.last.get("reason")
        if self.begun and reason != "claimed":
            self.restarts.append((_RESTARTED.get(reason, "stopped"), self.step))
        self.begun = True


def last_log_line(folder: Path) -> str:
    """Return the last line that an attempt wrote outside its events, or nothing."""
    return next((line.strip() for line in reversed(log_end(folder / LOG_FILE).split("\n")) if line.strip()), "")


def log_end(file: Path, size: int = 4096) -> str:
    """Return the last bytes of a file as text; nothing if it cannot be read."""
    try:
        with file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - size))
            return log.read().decode(errors="replace")
    except OSError:
        return ""


def about_to_begin(folder: Path) -> bool:
    """Say whether an attempt may be a process that has not said a word yet, begun by a controller that died since."""
    try:
        age = time.time() - (folder / JOB_FILE).stat().st_mtime
    except OSError:
        return False
    return age < START_SECONDS and not _has_spoken(folder)


def _has_spoken(folder: Path) -> bool:
    # The file is made before the claim is taken, and written to after that.
    try:
        return (folder / EVENTS_FILE).stat().st_size > 0
    except OSError:
        return False


def at_work(workspace: Workspace, key: str) -> Path | None:
    """Return the folder of the attempt that works on a stage now or is about to, by whomever it was begun; or None."""
    held = holder(workspace, key)
    if held is not None and held.alive:
        return workspace.attempt(held.attempt)
    return next((folder for folder in attempts_of(workspace, key)[-1:] if about_to_begin(folder)), None)


def leave_word(workspace: Workspace, key: str, reason: str) -> None:
    """Write into the folders of all attempts at a stage that work on it, or may begin to, that they should stop."""
    held = holder(workspace, key)
    # One that was sent or started, and has not said a word, would take the stage up once the other lets go of it.
    folders = {folder for folder in attempts_of(workspace, key) if not _has_spoken(folder)}
    if held is not None and held.alive:
        folders.add(workspace.attempt(held.attempt))
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / STOP_FILE).write_text(reason)


def request_stop(workspace: Workspace, key: str) -> str | None:
    """Ask the live attempt at a stage to save and stop; return its id, or None if there is none.

    The attempt finds the request in its folder; if it runs on this machine, a signal makes it look at once. One that
    is about to begin finds it too.
    """
    leave_word(workspace, key, "cancel")
    held = holder(workspace, key)
    if held is None or not held.alive:
        return None
    if held.host == socket.gethostname() and held.pid != os.getpid():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(held.pid, signal.SIGTERM)
    return held.attempt
