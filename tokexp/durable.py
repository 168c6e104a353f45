"""Writes that survive a crash: synced to disk, and seen by others whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when a file cannot grow: disk full, quota reached, file size limit reached."""

NEARLY_NOTHING = 1 << 20
"""Bytes of free space below which a failed write is put down to a full disk."""


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    _sync(path, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and make its content durable; a crash on the way can leave it half written."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a file beside `path` to write to; when the block ends it is made durable and takes the place of `path`.

    A reader, at any moment and after any crash, sees the old or the new content. After an error, only the old.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        yield beside
        sync_file(beside)
        beside.replace(path)
    except OSError as error:
        # Writing tells no name, and the name of the file beside would mean nothing to anybody.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_atomic(path: Path, content: bytes) -> None:
    """Write or replace a file so that it is seen whole or not at all; see `written_whole`."""
    with written_whole(path) as beside:
        beside.write_bytes(content)


def file_digest(path: Path) -> str:
    """Return 64 hex digits of blake2b over a file's content."""
    seen = blake2b(digest_size=32)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            seen.update(chunk)
    return seen.hexdigest()


def files_digest(files: Sequence[str]) -> str:
    """Return the digests of some files' contents, in their order; `~` stands for the home folder."""
    return "+".join(file_digest(Path(file).expanduser()) for file in files)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder (or of one file), links not followed; files that vanish count 0."""
    total = 0
    for path in (folder, *folder.rglob("*")):
        try:
            total += 0 if path.is_dir() else path.lstat().st_size
        except OSError:
            continue
    return total


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Tell whether an error means that nothing more can be written to the disk of `folder`.

    Libraries that write files themselves hide the system's error number, so that their text and, for errors of
    writing, the space that is left are looked at too.
    """
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in FULL_ERRNOS:
            return True
        if "no space left" in str(cause).lower() or "quota exceeded" in str(cause).lower():
            return True
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return False
    return isinstance(error, (OSError, RuntimeError)) and free < NEARLY_NOTHING


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(10):
        if current is None:
            return
        yield current
        current = current.__cause__ or current.__context__
