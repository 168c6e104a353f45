"""Files of published weights as part of a stage's key: what decides is their content, not where they lie."""

from functools import lru_cache
from pathlib import Path

from tokexp.data.listing import ABSENT
from tokexp.durable import files_digest
from tokexp.errors import DataError
from tokexp.spec.base import Spec


class AbsentFileError(DataError):
    """A file that a tokenizer is made of is not there; `field` is the path of what names it in an experiment."""

    def __init__(self, field: tuple[str, ...], reason: str) -> None:
        """Take the field and what is wrong with the file that it names."""
        super().__init__(f"{'.'.join(field)}: {reason}")
        self.field, self.reason = field, reason


def checkpoint_digest(tokenizer: Spec, *, strict: bool) -> str | None:
    """Return the digests of the files that a tokenizer is made of, None if there are none.

    Without a readable file that is "absent"; with `strict`, AbsentFileError is raised, naming field and file.
    """
    files: tuple[str, ...] = tokenizer.files() if hasattr(tokenizer, "files") else ()
    changed = []
    for file in files:
        try:
            changed.append(_changed(file))
        except OSError as error:
            if not strict:
                return ABSENT
            field = ("tokenizer", *_field_of(tokenizer, file))
            reason = f"{file!r}: {error.strerror}; fetch the published file, or correct the path"
            raise AbsentFileError(field, reason) from error
    return _digest(files, tuple(changed)) if files else None


def _changed(file: str) -> int:
    path = Path(file).expanduser()
    if path.is_dir():
        raise IsADirectoryError(0, "this is a folder", file)
    with path.open("rb"):
        return path.stat().st_mtime_ns


@lru_cache(maxsize=64)
def _digest(files: tuple[str, ...], changed: tuple[int, ...]) -> str:
    del changed
    return files_digest(files)


def _field_of(spec: Spec, file: str) -> tuple[str, ...]:
    """Return the path of the field that holds the name of a file, () if none does."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if value == file:
            return (name,)
        if isinstance(value, Spec) and (below := _field_of(value, file)):
            return (name, *below)
    return ()
