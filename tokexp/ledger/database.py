"""The ledger's SQLite file: opened, filled from event files, checked against them, replaced."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tokexp.ledger.events import Scan, scan
from tokexp.ledger.schema import VERSION, create_tables, forget, store
from tokexp.ledger.workspace import Workspace

_BUSY_S = 30.0


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open the file; with `create`, for the holder of the lock alone, its tables are made if it is new.

    Raises sqlite3.DatabaseError for a file that is not a ledger of this version.
    """
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
    try:
        # Write-ahead logs need shared memory, which network file systems do not have.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = NORMAL")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        empty = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] == 0
        if version == 0 and empty:
            if not create:  # somebody is just making it
                connection.close()
                connection = sqlite3.connect(":memory:", isolation_level=None)
            create_tables(connection)
        elif version != VERSION:
            raise sqlite3.DatabaseError(f"its tables have version {version} instead of {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do everything in the block or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        # A full disk makes SQLite roll back by itself; a second time would hide the error.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def read_new(connection: sqlite3.Connection, workspace: Workspace) -> int:
    """Fold all events behind the stored offsets into the tables and return their number; belongs in a transaction."""
    offsets: dict[str, int] = dict(connection.execute("SELECT attempt, offset FROM offsets").fetchall())
    count = 0
    for attempt in sorted({*workspace.attempt_ids(), *offsets}):
        path, offset = workspace.attempt(attempt) / "events.jsonl", offsets.get(attempt, 0)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size != offset:
            count += _read_attempt(connection, attempt, path, offset)
    return count


def in_memory(workspace: Workspace) -> sqlite3.Connection:
    """Return a ledger in memory alone, made from all event files."""
    connection = connect(Path(":memory:"), create=True)
    with transaction(connection):
        read_new(connection, workspace)
    return connection


def broken(connection: sqlite3.Connection) -> list[str]:
    """Return what SQLite finds wrong with the file's structure."""
    said = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    return [] if said == ["ok"] else said


def compare(workspace: Workspace) -> list[str]:
    """Return in what the ledger differs from its event files, as far as it has read them; reads every event."""
    try:
        with closing(connect(workspace.ledger_file)) as ours, closing(in_memory(workspace)) as truth:
            if damage := broken(ours):
                return damage
            return _differences(ours, truth)
    except sqlite3.DatabaseError as error:
        return [f"it cannot be read: {error}"]


def replace(workspace: Workspace) -> int:
    """Make the file anew from the event files, and return the number of events; for the holder of the lock alone."""
    workspace.tmp.mkdir(parents=True, exist_ok=True)
    beside = workspace.tmp / f"ledger.{os.getpid()}.sqlite"
    beside.unlink(missing_ok=True)
    try:
        with closing(connect(beside, create=True)) as connection, transaction(connection):
            count = read_new(connection, workspace)
        journal = workspace.ledger_file.with_name(f"{workspace.ledger_file.name}-journal")
        if journal.exists():
            # It belongs to the old file, and SQLite would roll it back into the new one. The old file goes first:
            # without its journal it might be half a transaction.
            workspace.ledger_file.unlink(missing_ok=True)
            journal.unlink()
        if workspace.ledger_file.is_dir():
            raise IsADirectoryError(f"{workspace.ledger_file} is a folder; move it away")
        beside.replace(workspace.ledger_file)
    finally:
        beside.unlink(missing_ok=True)
    return count


def _read_attempt(connection: sqlite3.Connection, attempt: str, path: Path, offset: int) -> int:
    found = _scan(path, offset)
    count = store(connection, attempt, found)
    if found.misplaced:
        forget(connection, attempt)
        count += store(connection, attempt, _scan(path, 0))
    return count


def _scan(path: Path, offset: int) -> Scan:
    try:
        return scan(path, offset)
    except OSError as error:
        return Scan(next_offset=offset, broken=f"{path} cannot be read: {error.strerror}")


def _differences(ours: sqlite3.Connection, truth: sqlite3.Connection) -> list[str]:
    read: dict[str, int] = dict(ours.execute("SELECT attempt, offset FROM offsets").fetchall())
    real: dict[str, int] = dict(truth.execute("SELECT attempt, offset FROM offsets").fetchall())
    found = [f"it knows the attempt {attempt}, which has no events" for attempt in read if attempt not in real]
    for attempt in (attempt for attempt, offset in real.items() if read.get(attempt) == offset):
        for table, column in (("attempts", "id"), ("metrics", "attempt")):
            text = f"SELECT * FROM {table} WHERE {column} = ? ORDER BY 1, 2, 3"
            if ours.execute(text, (attempt,)).fetchall() != truth.execute(text, (attempt,)).fetchall():
                found.append(f"its {table} of the attempt {attempt} differ from the events")
    return found
