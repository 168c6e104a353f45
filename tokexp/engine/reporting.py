"""How running work says what happens, and how it is asked to stop."""

from typing import Protocol


class Reporter(Protocol):
    """Receives what a person or a tracker may want to see. Every call is cheap; none may fail the work."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Note values measured at an update."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """Note how much of the work is done."""

    def checkpoint(self, step: int, file: str) -> None:
        """Note that work up to `step` can be taken up again."""

    def resumed(self, step: int) -> None:
        """Note that earlier work up to `step` was taken up."""


class Silent:
    """A reporter that drops everything, for use as a library and in tests."""

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Drop the values."""

    def progress(self, done: int, total: int, unit: str) -> None:
        """Drop the progress."""

    def checkpoint(self, step: int, file: str) -> None:
        """Drop the note."""

    def resumed(self, step: int) -> None:
        """Drop the note."""


class Stopped(Exception):  # noqa: N818 (not an error: work was saved and can go on later)
    """Work ended because it was asked to; what was done is saved."""
