"""Errors that a person caused or can act on. Each is one clear message; none is shown with a traceback."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing wrong in what was written: where, which field, and what is needed instead.

    `line` and `column` count from 1; they are None where no text stands behind the field (a value by `--set`).
    """

    file: str
    path: str
    message: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        """Return `FILE:LINE:COL: PATH: message`."""
        place = self.file if self.line is None else f"{self.file}:{self.line}:{self.column}"
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class TokexpError(Exception):
    """Base of all errors with a message for a person; `exit_code` is what the command line ends with."""

    exit_code = 1


class SpecError(TokexpError):
    """A spec that cannot be used, with all of its problems."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        """Take at least one problem."""
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class InputError(TokexpError):
    """Something given on the command line or found on disk is wrong: what, and what to do."""

    exit_code = 2


class DataError(InputError):
    """Images or token files are missing, unreadable, or not what the spec says."""


class FieldError(DataError):
    """What a field names is missing, or not what it should be; `field` is its path in an experiment."""

    def __init__(self, field: tuple[str, ...], reason: str) -> None:
        """Take the field and what is wrong with that which it names."""
        super().__init__(f"{'.'.join(field)}: {reason}")
        self.field, self.reason = field, reason


class DamagedError(TokexpError):
    """A file that tokexp wrote does not match its digest: it is never used."""


class StageError(TokexpError):
    """A stage could not be finished."""
