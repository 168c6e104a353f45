"""Files of published weights as part of a stage's key: what decides is their content, not where they lie."""

from pathlib import Path

from tokexp.data.listing import ABSENT
from tokexp.durable import files_digest
from tokexp.errors import FieldError
from tokexp.spec.base import Spec
from tokexp.spec.file_memory import FileMemory


def checkpoint_digest(tokenizer: Spec, *, strict: bool) -> str | None:
    """Return the digests of the files that a tokenizer is made of, None if there are none.

    Without a readable file that is "absent"; with `strict`, FieldError is raised, naming field and file.
    """
    files: tuple[str, ...] = tokenizer.files() if hasattr(tokenizer, "files") else ()
    for file in files:
        try:
            _readable(file)
        except OSError as error:
            if not strict:
                return ABSENT
            field = ("tokenizer", *_field_of(tokenizer, file))
            reason = f"{file!r}: {error.strerror}; fetch the published file, or correct the path"
            raise FieldError(field, reason) from error
    return _DIGESTS.recall(files, lambda: (files_digest(files), files)) if files else None


_DIGESTS = FileMemory[str](most=64)


def _readable(file: str) -> None:
    """Raise OSError for a file that is not there, is a folder, or may not be read."""
    path = Path(file).expanduser()
    if path.is_dir():
        raise IsADirectoryError(0, "this is a folder", file)
    with path.open("rb"):
        pass


def _field_of(spec: Spec, file: str) -> tuple[str, ...]:
    """Return the path of the field that holds the name of a file, () if none does."""
    for name in type(spec).model_fields:
        value = getattr(spec, name)
        if value == file:
            return (name,)
        if isinstance(value, Spec) and (below := _field_of(value, file)):
            return (name, *below)
    return ()
