"""What a tracker can do. A tracker is told things at least once; it keeps each of them exactly once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
"""MLflow's words. KILLED: stopped or cancelled; it may run again."""


class UnreachableError(Exception):
    """The tracking server or store does not answer; nothing is lost, the next sync goes on from there."""


class RunDeletedError(Exception):
    """Somebody deleted the run in the tracker; it is left alone."""


@dataclass(frozen=True)
class Point:
    """One value of one metric. `time_ms` is in milliseconds since 1970 and is the event's own."""

    name: str
    value: float
    step: int
    time_ms: int


@dataclass(frozen=True)
class TrackedRun:
    """A run to be shown. `key` and `parent` (the parent's id in the tracker) identify it."""

    key: str
    name: str
    parent: str | None
    start_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)


class Tracker(ABC):
    """A place that shows runs. Every call raises UnreachableError if it does not answer."""

    @abstractmethod
    def open_run(self, run: TrackedRun) -> str:
        """Find the run by key and parent or create it, and return its id. Raises RunDeletedError if it was deleted."""

    @abstractmethod
    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Add points; equal ones that are there already stay single. All of them arrived when this returns."""

    @abstractmethod
    def log_text(self, run_id: str, name: str, text: str) -> None:
        """Keep a text file with a run, replacing one of the same name."""

    @abstractmethod
    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        """Say how a run stands; `end_ms` is when it ended, None for one that goes on."""
