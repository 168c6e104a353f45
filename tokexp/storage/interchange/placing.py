"""Where outputs go: a file or a folder that is seen whole or not at all, and never takes another's place unasked."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokexp.durable import sync_file, sync_folder
from tokexp.errors import InputError


def free_file(path: Path, force: bool) -> Path:
    """Return the path of a file that may be written. Raises InputError if it may not."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file")
    if path.exists() and not force:
        raise InputError(f"{path} exists already; name another file, or replace it with --force")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; make it first")
    return path


@contextmanager
def whole_folder(path: Path, mark: str, force: bool) -> Iterator[Path]:
    """Yield a folder to fill; when the block ends it is made durable and takes the name `path`.

    With `force` an older one is replaced, if it is empty or has the file `mark`, by which such folders are known: no
    other folder is ever removed. After an error nothing has changed. Raises InputError before the block.
    """
    _check_folder(path, mark, force)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    beside.mkdir()
    try:
        yield beside
        for file in sorted(beside.rglob("*")):
            (sync_folder if file.is_dir() else sync_file)(file)
        sync_folder(beside)
        _put(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    sync_folder(path.parent)


def _check_folder(path: Path, mark: str, force: bool) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; name a folder")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} does not exist; make it first")
    if path.is_dir() and any(path.iterdir()):
        if not force:
            raise InputError(f"{path} exists already; name another folder, or replace it with --force")
        if not (path / mark).is_file():
            raise InputError(f"{path} has no {mark}, so tokexp did not write it and will not replace it; name another")


def _put(beside: Path, path: Path) -> None:
    if not path.exists():
        beside.rename(path)
        return
    old = path.with_name(f"{beside.name}.old")
    path.rename(old)
    beside.rename(path)
    shutil.rmtree(old)
