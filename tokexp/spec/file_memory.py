"""What was made of files, kept in this process for as long as the files certainly are what they were.

A file's times go by ticks of milliseconds, on some file systems of seconds: content that is written again within one
tick looks the same from outside. So nothing is kept that was made of a file younger than `SETTLED_S` (git's index has
the same rule for entries that it calls racy); it is made anew until the file has come to rest.
"""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

SETTLED_S = 2.0
"""Age from which a file's times tell its content from what is written later: the coarsest tick, FAT's, is 2 s."""

Made = TypeVar("Made")
State = tuple[int, ...]


@dataclass(frozen=True)
class _Entry(Generic[Made]):
    made: Made
    states: dict[str, State]


class FileMemory(Generic[Made]):
    """Keeps what was made of files, the `most` latest, by any key."""

    def __init__(self, most: int) -> None:
        """Take how many entries are kept."""
        self._most = most
        self._entries: dict[Hashable, _Entry[Made]] = {}

    def recall(self, key: Hashable, make: Callable[[], tuple[Made, Sequence[str]]]) -> Made:
        """Return what is kept under `key` if its files have not changed since; else what `make` returns.

        `make` returns that with the files which it was made of. Its errors pass through, and nothing is kept then.
        """
        entry = self._entries.get(key)
        if entry is not None and all(_state(file) == state for file, state in entry.states.items()):
            return entry.made
        self._entries.pop(key, None)
        started = time.time_ns()
        made, files = make()
        states = {file: state for file in files if (state := _state(file)) is not None and _settled(state, started)}
        if len(states) == len(set(files)):
            if len(self._entries) >= self._most:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = _Entry(made, states)
        return made


def _state(file: str) -> State | None:
    """Return what changes when a file is written, replaced or renamed; None if it cannot be asked for.

    The time of the inode's last change comes last. Nobody can set it back, as that of the content can be.
    """
    try:
        found = Path(file).expanduser().stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _settled(state: State, moment: int) -> bool:
    """Say whether a file had come to rest at a moment (ns)."""
    return state[-1] + int(SETTLED_S * 1e9) <= moment
