"""The ledger's tables, and how one attempt's events are folded into them."""

import json
import math
import sqlite3
from collections.abc import Iterable
from typing import Any

from tokexp.ledger.events import Event, Scan

VERSION = 2
"""Version of the tables; a ledger of another version is rebuilt."""

TABLES = """
CREATE TABLE attempts (
    id TEXT PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, label TEXT NOT NULL, seed INTEGER, inputs TEXT NOT NULL,
    host TEXT NOT NULL, pid INTEGER NOT NULL, versions TEXT NOT NULL, started REAL NOT NULL, restarts INTEGER NOT NULL,
    updated REAL NOT NULL, state TEXT NOT NULL, ended REAL, resumed INTEGER, step INTEGER, done REAL, total REAL,
    unit TEXT, rate REAL, seconds REAL, cause TEXT, message TEXT, metrics TEXT NOT NULL, facts TEXT NOT NULL,
    gpus INTEGER NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX attempts_by_key ON attempts (key);
CREATE INDEX attempts_by_kind ON attempts (kind, state);
CREATE TABLE metrics (
    attempt TEXT NOT NULL, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL, t REAL NOT NULL,
    PRIMARY KEY (attempt, step, name)
) WITHOUT ROWID;
CREATE TABLE problems (attempt TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (attempt, text)) WITHOUT ROWID;
CREATE TABLE offsets (attempt TEXT PRIMARY KEY, offset INTEGER NOT NULL, events INTEGER NOT NULL) WITHOUT ROWID;
"""

_STARTED = (
    "INSERT INTO attempts (id, key, kind, label, seed, inputs, host, pid, versions, started, restarts, updated, state,"
    " gpus, metrics, facts, used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, 'running', ?, '{}', '{}', 0)"
    " ON CONFLICT (id) DO UPDATE SET restarts = restarts + 1, updated = excluded.updated, state = 'running',"
    " host = excluded.host, pid = excluded.pid, versions = excluded.versions, ended = NULL, cause = NULL,"
    " message = NULL"
)


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty database."""
    connection.executescript(f"BEGIN; {TABLES} PRAGMA user_version = {VERSION}; COMMIT;")


def store(connection: sqlite3.Connection, attempt: str, found: Scan) -> int:
    """Fold what was read of an attempt into the tables, its new offset with it, and return the number of events.

    Belongs in one transaction: whoever sees the rows sees the offset.
    """
    for event in found.events:
        _fold(connection, attempt, event)
    if found.broken:
        connection.execute("INSERT OR IGNORE INTO problems VALUES (?, ?)", (attempt, found.broken))
    if found.events:
        row = (attempt, found.next_offset, found.next_number)
        connection.execute("INSERT OR REPLACE INTO offsets VALUES (?, ?, ?)", row)
    return len(found.events)


def forget(connection: sqlite3.Connection, attempt: str) -> None:
    """Remove what was read of an attempt, so that its events are read anew; problems that were met stay."""
    for table, column in (("attempts", "id"), ("metrics", "attempt"), ("offsets", "attempt")):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (attempt,))


def _fold(connection: sqlite3.Connection, attempt: str, event: Event) -> None:
    kind, when = event["e"], float(event["t"])
    if kind == "started":
        connection.execute(_STARTED, _started_row(attempt, event, when))
    elif kind == "metrics":
        rows = _metric_rows(attempt, event, when)
        connection.executemany("INSERT OR REPLACE INTO metrics VALUES (?, ?, ?, ?, ?)", rows)
    changes = {"updated": when, **_changes(kind, event, when)}
    columns = ", ".join(f"{column} = ?" for column in changes)
    # The time between a death and the next start is nobody's; between two other events the attempt was at work.
    used = "used" if kind == "started" else "used + MAX(0, ? - updated)"
    times = () if kind == "started" else (when,)
    connection.execute(
        f"UPDATE attempts SET used = {used}, {columns} WHERE id = ?", (*times, *changes.values(), attempt)
    )


def _started_row(attempt: str, event: Event, when: float) -> tuple[Any, ...]:
    return (
        attempt, str(event.get("key", "")), str(event.get("kind", "")), str(event.get("label", "")), event.get("seed"),
        _dump(event.get("inputs")), str(event.get("host", "")), int(event.get("pid") or 0),
        _dump(event.get("versions")), when, when, int(event.get("gpus") or 0),
    )  # fmt: skip


def _metric_rows(attempt: str, event: Event, when: float) -> Iterable[tuple[Any, ...]]:
    for name, value in dict(event.get("values") or {}).items():
        number = float(value)
        yield attempt, int(event.get("step") or 0), str(name), None if math.isnan(number) else number, when


def _changes(kind: str, event: Event, when: float) -> dict[str, Any]:
    """Return the columns of the attempt that an event changes."""
    if kind == "progress":
        return {name: event.get(name) for name in ("done", "total", "unit", "rate")}
    if kind in ("metrics", "checkpoint"):
        return {"step": event.get("step")}
    if kind == "resumed":
        return {"step": event.get("step"), "resumed": event.get("step")}
    if kind == "failed":
        return {"state": kind, "ended": when, "cause": event.get("cause"), "message": event.get("message")}
    if kind == "stopped":
        return {"state": kind, "ended": when, "cause": event.get("reason")}
    if kind == "done":
        said = {"metrics": _dump(event.get("metrics")), "facts": _dump(event.get("facts"))}
        return {"state": kind, "ended": when, "seconds": event.get("seconds"), **said}
    return {}


def _dump(value: Any) -> str:
    return json.dumps(value or {}, sort_keys=True)
