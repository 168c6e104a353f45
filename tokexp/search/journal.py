"""Where a study is kept: a journal file beside the sweep by default, any storage URL of Optuna on request.

The journal is lines of JSON, each appended and synced under Optuna's lock. A process that is killed can leave two
things behind that Optuna does not clear away: its lock, over which the next process would wait half a minute, and, on
a full disk, half a line, on which the next line would be written and make both unreadable.
"""

import os
import re
import time
from pathlib import Path
from typing import Any

from tokexp.errors import InputError

JOURNAL = "study.journal"
"""Name of the journal file."""

LOCK_S = 1.0
"""Seconds that a lock found at the start may live on before it is taken for that of a dead process."""


def open_storage(folder: Path, url: str | None) -> Any:
    """Return the Optuna storage of a search, made if it is not there; for the only process that writes to it.

    Raises InputError if the URL leads nowhere.
    """
    if url is not None:
        return _by_url(url)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / JOURNAL
    _clear_lock(file)
    _cut_half_line(file)
    return JournalStorage(JournalFileBackend(str(file)))


def open_to_read(folder: Path, url: str | None) -> Any | None:
    """Return the storage for reading beside its writer, nothing changed; None if there is none yet."""
    if url is not None:
        return _by_url(url)
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file = folder / JOURNAL
    return JournalStorage(JournalFileBackend(str(file))) if file.exists() else None


def _by_url(url: str) -> Any:
    from optuna.storages import get_storage

    try:
        return get_storage(url)
    except Exception as error:
        # Drivers have their own errors for a typing mistake, a missing driver and a server that is down.
        hidden = re.sub(r"//[^/@]*@", "//...@", url)
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot open the storage {hidden} of sampler.storage: {said}") from error


def _clear_lock(file: Path) -> None:
    lock = file.with_name(f"{file.name}.lock")
    deadline = time.monotonic() + LOCK_S
    while os.path.lexists(lock) and time.monotonic() < deadline:
        time.sleep(0.01)
    for left in (lock, *file.parent.glob(f"{lock.name}*.rename")):
        left.unlink(missing_ok=True)


def _cut_half_line(file: Path) -> None:
    if not file.exists():
        return
    with file.open("r+b") as journal:
        content = journal.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            journal.truncate(whole)
            os.fsync(journal.fileno())
