"""The inline launcher: attempts one after the other in this process, for debugging and for tests."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

from tokexp.launch.base import STOPPED, Ended, Handle, Launcher
from tokexp.spec.resources import Resources
from tokexp.worker import StopRequest, run_attempt


class InlineLauncher(Launcher):
    """Runs one queued attempt in every `poll`. A signal handler may call `cancel` while it runs."""

    blocking = True

    def __init__(self) -> None:
        """Start with an empty queue."""
        self._queue: deque[Handle] = deque()
        self._dropped: list[Ended] = []
        self._current: tuple[Handle, StopRequest] | None = None

    def submit(self, folder: Path, resources: Resources) -> Handle:
        """Queue an attempt; resources are this process's own."""
        handle = Handle(folder)
        self._queue.append(handle)
        return handle

    def poll(self) -> list[Ended]:
        """Run the next attempt to its end and return it, with those that were cancelled before they began."""
        ended, self._dropped = self._dropped, []
        if self._queue:
            handle = self._queue.popleft()
            stop = StopRequest(handle.folder)
            self._current = (handle, stop)
            try:
                ended.append(Ended(handle, run_attempt(handle.folder, stop)))
            finally:
                self._current = None
        return ended

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """Drop a queued attempt, or ask the running one to stop at its next step (`force` can do no more)."""
        if self._current is not None and self._current[0] == handle:
            self._current[1].request("signal")
        elif handle in self._queue:
            self._queue.remove(handle)
            self._dropped.append(Ended(handle, STOPPED))

    def close(self) -> None:
        """Forget the queue."""
        self._queue.clear()


def build(jobs: int | None = None, warn: Callable[[str], None] = lambda message: None) -> InlineLauncher:
    """Return an inline launcher; `jobs` is always one."""
    return InlineLauncher()
