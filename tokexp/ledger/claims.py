"""Claims: at most one live attempt works on a stage key.

A claim is the file `work/<key>/claim` with its owner as JSON; touching it is the heartbeat. It is stale when the last
heartbeat is older than the lease, or at once when its owner ran on this machine and is gone. Taking, stealing and
releasing happen under a lock beside it, so that of any number of contenders one wins.
"""

import errno
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tokexp.durable import is_disk_full
from tokexp.errors import StageError
from tokexp.ledger.locks import file_lock
from tokexp.ledger.workspace import Workspace

LEASE_S = 60.0
"""Seconds without a heartbeat after which a claim may be stolen; owners should beat several times within it."""

_START_TOLERANCE_S = 5.0


@dataclass(frozen=True)
class ClaimInfo:
    """Who holds a key: machine, process, attempt, when it was taken and last touched, and whether it is alive."""

    host: str
    pid: int
    attempt: str
    taken: float
    heartbeat: float
    alive: bool
    why: str


@dataclass(frozen=True)
class _Owner:
    host: str
    place: str
    pid: int
    start: float
    attempt: str
    time: float
    nonce: str


class Claim:
    """A key held by this attempt. Use as a context manager, or call `release`."""

    def __init__(self, path: Path, nonce: str) -> None:
        """Made by `take` alone."""
        self.path = path
        self._nonce = nonce

    @classmethod
    def take(cls, workspace: Workspace, key: str, attempt: str) -> "Claim | None":
        """Claim a key for an attempt; return None if another live attempt holds it.

        Raises InputError if the workspace cannot be written to, StageError on a full disk.
        """
        path = workspace.create().work(key) / "claim"
        owner = _this_process(attempt)
        with file_lock(_lock_of(path)) as lock:
            # The lock's own time stamp is the file system's clock, which heartbeats are measured by.
            os.utime(lock)
            held = _read(path, lock.stat().st_mtime)
            if held is not None and held.alive:
                return None
            path.unlink(missing_ok=True)
            try:
                return cls(path, owner.nonce) if _create(path, owner) else None
            except OSError as error:
                why = "disk full" if is_disk_full(error, path.parent) else error.strerror
                raise StageError(f"cannot claim the stage {key[:12]}: {why}; see to {path.parent} and retry") from error

    def beat(self) -> bool:
        """Renew the lease. Returns False if the claim is no longer ours: stop, somebody else does the work."""
        if not self._ours():
            return False
        try:
            os.utime(self.path)
        except FileNotFoundError:
            return False
        return True

    def release(self) -> None:
        """Give the key up if it is still ours; does nothing otherwise."""
        if not self.path.parent.exists():
            return
        with file_lock(_lock_of(self.path)):
            if self._ours():
                self.path.unlink(missing_ok=True)

    def _ours(self) -> bool:
        return (_fields(self.path) or {}).get("nonce") == self._nonce

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def holder(workspace: Workspace, key: str) -> ClaimInfo | None:
    """Return who holds a key, alive or stale; None if nobody does."""
    return _read(workspace.work(key) / "claim", time.time())


def claim_lock(workspace: Workspace, key: str) -> Path:
    """Return the lock file under which a key's claim changes hands; hold it to look and act in one step."""
    return _lock_of(workspace.work(key) / "claim")


def _lock_of(path: Path) -> Path:
    return path.with_name("claim.lock")


def _create(path: Path, owner: _Owner) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        return False
    try:
        text = json.dumps(asdict(owner)).encode()
        if os.write(descriptor, text) != len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return True


def _fields(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _read(path: Path, now: float) -> ClaimInfo | None:
    try:
        heartbeat = path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    fields = _fields(path) or {}
    why = _why_stale(fields, now - heartbeat)
    return ClaimInfo(
        host=str(fields.get("host", "unknown")),
        pid=int(fields.get("pid", 0)),
        attempt=str(fields.get("attempt", "unknown")),
        taken=float(fields.get("time", heartbeat)),
        heartbeat=heartbeat,
        alive=not why,
        why=why or f"heartbeat {max(now - heartbeat, 0):.0f} s ago",
    )


def _why_stale(fields: dict[str, Any], age: float) -> str:
    if age > LEASE_S:
        return f"no heartbeat for {age:.0f} s"
    here = fields.get("host") == socket.gethostname() and fields.get("place", _place()) == _place()
    if here and "pid" in fields and not _runs(int(fields["pid"]), float(fields.get("start", 0))):
        return f"process {fields['pid']} on this machine is gone"
    return ""


def _this_process(attempt: str) -> _Owner:
    start = float(_process(os.getpid()).create_time())
    nonce = os.urandom(8).hex()
    return _Owner(socket.gethostname(), _place(), os.getpid(), start, attempt, time.time(), nonce)


@cache
def _place() -> str:
    """Name what process numbers count within: two containers may share a host name but not their processes."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return f"{boot.read_text().strip()}/{space.readlink()}"
    except OSError:  # not Linux: the host name has to do
        return ""


def _process(pid: int) -> Any:
    import psutil

    make: Any = psutil.Process
    return make(pid)


def _runs(pid: int, start: float) -> bool:
    import psutil

    try:
        process = _process(pid)
        same = abs(float(process.create_time()) - start) <= _START_TOLERANCE_S
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
