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


@dataclass
class SyncReport:
    """What a sync did. `unreachable` says why a store did not answer; `problems` what was left out, in words."""

    runs: int = 0
    stages: int = 0
    sweeps: int = 0
    trials: int = 0
    points: int = 0
    stores: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Tracker(ABC):
    """A place that shows runs. Every call raises UnreachableError if it does not answer."""

    @abstractmethod
    def open_runs(self, runs: Sequence[TrackedRun]) -> list[str | None]:
        """Find runs of one parent by their keys or create them; return their ids, None for those that were deleted."""

    @abstractmethod
    def log(
        self, run_id: str, points: Sequence[Point] = (), tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Add points, of which equal ones stay single, set tags, and add parameters. All arrived when this returns.

        Raises RunDeletedError if somebody deleted the run.
        """

    @abstractmethod
    def log_text(self, run_id: str, name: str, text: str) -> None:
        """Keep a text file with a run, replacing one of the same name."""

    @abstractmethod
    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        """Say how a run stands; `end_ms` is when it ended, None for one that goes on."""

    def open_run(self, run: TrackedRun) -> str:
        """Find or create one run, and return its id. Raises RunDeletedError if it was deleted."""
        (run_id,) = self.open_runs([run])
        if run_id is None:
            raise RunDeletedError(f"the run {run.name!r} was deleted")
        return run_id

    def label(self, name: str, text: str) -> None:  # noqa: B027 (a place that shows nothing but runs needs none)
        """Keep a tag with what holds the runs, replacing one of the same name; a tracker may do without."""

    def page(self) -> str:
        """Return where its dashboard shows what is in it, behind the dashboard's address; empty for its front page."""
        return ""
