"""One lock, held by one process at a time on all machines that share the file system; it ends with its process."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokexp.errors import InputError

UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


@contextmanager
def file_lock(path: Path, timeout_s: float = 60.0) -> Iterator[Path]:
    """Hold the lock file `path`, made if it is not there; it may be deleted by whoever holds it.

    Raises InputError if it is still held by others after `timeout_s`, or if the file system has no locks.
    """
    descriptor = _acquire(path, time.monotonic() + timeout_s)
    try:
        yield path
    finally:
        os.close(descriptor)


@contextmanager
def if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file `path` if nobody else does; gives whether it is held now.

    Raises InputError if the file cannot be made, or if the file system has no locks.
    """
    descriptor = _open(path)
    held = descriptor is not None and _locked(descriptor, path) and _still_named(descriptor, path)
    try:
        yield held
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _acquire(path: Path, deadline: float) -> int:
    pause = 0.001
    while True:
        descriptor = _open(path)
        if descriptor is not None:
            if _locked(descriptor, path) and _still_named(descriptor, path):
                return descriptor
            os.close(descriptor)
        if time.monotonic() > deadline:
            raise InputError(f"{path} is held by another process; try again, or end the process that holds it")
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _open(path: Path) -> int | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:  # the folder was removed in between
        return None
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose a workspace that you may write to") from error


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        os.close(descriptor)
        if error.errno in UNSUPPORTED:
            raise InputError(
                f"the file system of {path.parent} has no file locks; put the workspace on one that has "
                "(Lustre needs the mount option flock)"
            ) from error
        raise
    return True


def _still_named(descriptor: int, path: Path) -> bool:
    # A holder may have deleted the file: a lock on a nameless file excludes nobody.
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (named.st_ino, named.st_dev) == (mine.st_ino, mine.st_dev)
