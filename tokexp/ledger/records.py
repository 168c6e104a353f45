"""The ledger: one SQLite file that sums up the events of all attempts, for status, estimates and reports.

It is a summary and never the truth: a ledger that is missing, damaged or of another version is rebuilt from the event
files. One process writes at a time (a lock beside the file); readers need no lock. New events and the offset up to
which they were read go into one transaction, so that each event counts once.
"""

import json
import logging
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from tokexp.errors import InputError
from tokexp.ledger import database
from tokexp.ledger.claims import holder
from tokexp.ledger.locks import file_lock
from tokexp.ledger.outputs import DONE, is_done
from tokexp.ledger.workspace import Workspace

StageState = Literal["planned", "running", "done", "failed", "stopped", "lost", "damaged"]
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AttemptRecord:
    """One execution of a stage, summed up from its events. Times are unix seconds.

    state: running, done, failed, stopped, or lost (it did not end, and no live process holds its claim).
    cause: of a failure (code, nan, memory, disk, input, lost) or a stop (signal, cancel, claimed, timeout).
    restarts: how often the same attempt was started again (a requeue). resumed: the update it went on from, if any.
    used: seconds at work, all restarts included. gpus: how many it held, on all machines together.
    """

    id: str
    key: str
    kind: str
    label: str
    seed: int | None
    inputs: dict[str, str]
    host: str
    pid: int
    versions: dict[str, str]
    started: float
    restarts: int
    updated: float
    state: str
    ended: float | None
    resumed: int | None
    step: int | None
    done: float | None
    total: float | None
    unit: str | None
    rate: float | None
    seconds: float | None
    cause: str | None
    message: str | None
    metrics: dict[str, float]
    facts: dict[str, Any]
    gpus: int
    used: float


class Ledger:
    """Reads and updates the ledger of a workspace. `problems` says what was found wrong and what was done about it."""

    def __init__(self, workspace: Workspace) -> None:
        """Name the workspace; nothing is opened yet."""
        self.workspace = workspace
        self.problems: list[str] = []
        self._checked = False
        self._memory: sqlite3.Connection | None = None

    def ingest(self) -> int:
        """Read what is new in all event files and return the number of new events.

        Raises InputError if another process holds the ledger for a minute, or if it cannot be written.
        """
        with file_lock(_lock_of(self.workspace.create())):
            try:
                return self._ingest()
            except sqlite3.DatabaseError as error:
                self._refuse_temporary(error)
                self._say(f"the ledger is damaged ({error}); rebuilt from the event files")
                return _replaced(self.workspace)

    def refresh(self) -> None:
        """Read what is new, in memory alone if it cannot be written down; `problems` says so then."""
        if not self.workspace.root.exists():
            return
        try:
            self.ingest()
        except InputError as error:
            self._leave_file(error)

    def attempts(self, key: str | None = None) -> list[AttemptRecord]:
        """Return the attempts at a stage, or all, in the order in which they were started."""
        where, values = ("WHERE key = ?", (key,)) if key is not None else ("", ())
        rows = self._query(f"SELECT * FROM attempts {where} ORDER BY started, id", values)
        return [self._attempt(row) for row in rows]

    def stage_state(self, key: str) -> StageState:
        """Return what is known about a stage now, from its output, its claim and its newest attempt."""
        return self.stage_states([key])[key]

    def stage_states(self, keys: Iterable[str]) -> dict[str, StageState]:
        """Return the state of many stages at once."""
        wanted = list(dict.fromkeys(keys))
        text = (
            "SELECT key, state FROM attempts WHERE NOT (state = 'stopped' AND cause IS 'claimed') ORDER BY updated, id"
        )
        newest: dict[str, str] = dict(self._query(text))
        return {key: self._stage_state(key, newest.get(key)) for key in wanted}

    def metrics(self, key: str) -> dict[str, list[tuple[int, float]]]:
        """Return each metric's (step, value) pairs by step; where attempts overlap, the newer one counts."""
        text = (
            "SELECT m.name, m.step, m.value FROM metrics AS m JOIN attempts ON attempts.id = m.attempt"
            " WHERE attempts.key = ? ORDER BY m.t, m.attempt"
        )
        found: dict[str, dict[int, float]] = {}
        for name, step, value in self._query(text, (key,)):
            found.setdefault(name, {})[step] = float("nan") if value is None else value
        return {name: sorted(values.items()) for name, values in sorted(found.items())}

    def durations(self, kind: str) -> list[tuple[float | None, float]]:
        """Return (work in FLOPs if the stage said so, seconds) of each attempt that did all of a stage's work."""
        text = (
            "SELECT facts, seconds FROM attempts WHERE kind = ? AND state = 'done' AND seconds IS NOT NULL"
            " AND COALESCE(resumed, 0) = 0 ORDER BY started, id"
        )
        found = []
        for facts, seconds in self._query(text, (kind,)):
            flops = json.loads(facts).get("flops")
            found.append((float(flops) if isinstance(flops, (int, float)) else None, float(seconds)))
        return found

    def trouble(self) -> list[str]:
        """Return what is wrong with event files, as far as it was met when they were read."""
        return [text for (text,) in self._query("SELECT text FROM problems ORDER BY attempt, text")]

    def compare(self) -> list[str]:
        """Return in what the ledger differs from its event files; empty if it is sound. Reads every event."""
        return database.compare(self.workspace)

    def _ingest(self) -> int:
        with closing(database.connect(self.workspace.ledger_file, create=True)) as connection:
            if not self._checked:
                if damage := database.broken(connection):
                    raise sqlite3.DatabaseError(damage[0])
                self._checked = True
            with database.transaction(connection):
                return database.read_new(connection, self.workspace)

    def _query(self, text: str, values: tuple[Any, ...] = ()) -> list[Any]:
        def ask() -> list[Any]:
            if not self.workspace.ledger_file.exists():
                return []
            with closing(database.connect(self.workspace.ledger_file)) as connection:
                return connection.execute(text, values).fetchall()

        if self._memory is None:
            try:
                return self._repairing(ask)
            except InputError as error:
                self._leave_file(error)
        assert self._memory is not None
        return self._memory.execute(text, values).fetchall()

    def _leave_file(self, error: InputError) -> None:
        # The events are the truth: what cannot be read from the file, or be written to it, is read from them.
        self.problems.append(f"read from the events, past the ledger: {error}")
        self._memory = database.in_memory(self.workspace)

    def _repairing(self, ask: Callable[[], Result]) -> Result:
        try:
            return ask()
        except sqlite3.DatabaseError as error:
            self._refuse_temporary(error)
            self._say(f"the ledger is damaged ({error}); rebuilt from the event files")
        rebuild(self.workspace)
        return ask()

    def _refuse_temporary(self, error: sqlite3.DatabaseError) -> None:
        if _is_temporary(error):
            raise _unusable(self.workspace, error) from error

    def _say(self, problem: str) -> None:
        self.problems.append(problem)
        _log.warning("%s: %s", self.workspace.ledger_file, problem)

    def _attempt(self, row: Any) -> AttemptRecord:
        values = list(row)
        for index in _JSON_COLUMNS:
            values[index] = json.loads(values[index])
        record = AttemptRecord(*values)
        if record.state != "running":
            return record
        claim = holder(self.workspace, record.key) if record.key else None
        alive = claim is not None and claim.alive and claim.attempt == record.id
        return record if alive else AttemptRecord(**{**record.__dict__, "state": "lost"})

    def _stage_state(self, key: str, newest: str | None) -> StageState:
        output = self.workspace.find_output(key)
        if output is not None and is_done(output):
            return "done"
        claim = holder(self.workspace, key)
        if claim is not None and claim.alive:
            return "running"
        if output is not None and (output / DONE).exists():
            return "damaged"
        after: dict[str | None, StageState] = {"failed": "failed", "stopped": "stopped", "running": "lost"}
        return after.get(newest, "planned")


_JSON_COLUMNS = [
    list(AttemptRecord.__dataclass_fields__).index(name) for name in ("inputs", "versions", "metrics", "facts")
]


def rebuild(workspace: Workspace) -> int:
    """Make the ledger anew from the event files, replacing what is there, and return the number of events."""
    with file_lock(_lock_of(workspace.create())):
        return _replaced(workspace)


def _replaced(workspace: Workspace) -> int:
    try:
        return database.replace(workspace)
    except (sqlite3.DatabaseError, OSError) as error:
        raise _unusable(workspace, error) from error


def _unusable(workspace: Workspace, error: Exception) -> InputError:
    return InputError(
        f"the ledger {workspace.ledger_file} cannot be used now ({error}); nothing is lost: try again "
        "when the disk has space and the file is writable"
    )


def _lock_of(workspace: Workspace) -> Path:
    return workspace.root / "ledger.lock"


def _is_temporary(error: sqlite3.DatabaseError) -> bool:
    # OperationalError also covers a missing table or column, which only a rebuild mends.
    text = str(error).lower()
    return isinstance(error, sqlite3.OperationalError) and any(
        word in text for word in ("locked", "busy", "disk is full", "unable to open", "readonly", "disk i/o")
    )
