"""What every launcher can do: start attempts, say which ended, end them early."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from tokexp.launch.recovery import Cause
from tokexp.spec.resources import Resources

DONE: Final = 0
FAILED: Final = 1
STOPPED: Final = 3
CLAIMED: Final = 4
"""Exit codes of a worker: output published, failed (an event says why), stopped on request, claimed elsewhere."""

STOP_FILE: Final = "cancel"
"""In an attempt's folder: asks the attempt to stop. Its text is the reason: cancel, timeout, preempted or pruned."""

LOG_FILE: Final = "log.txt"
JOB_FILE: Final = "job.json"
EVENTS_FILE: Final = "events.jsonl"


@dataclass(frozen=True)
class Handle:
    """An attempt that was handed to a launcher. `folder` is the attempt's folder; its name is the attempt's id."""

    folder: Path

    @property
    def attempt(self) -> str:
        """Return the attempt's id."""
        return self.folder.name


@dataclass(frozen=True)
class Task:
    """An attempt to be run: its folder, what it may use, the stage's kind and name.

    `after` holds the folders of attempts that must end well first; only for launchers that send plans whole.
    """

    folder: Path
    resources: Resources
    kind: str
    name: str
    after: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Ended:
    """An attempt that ended. `exit_code` is the worker's, or minus the signal that ended it.

    `timed_out` is set if the launcher stopped it because its time was up. `cause` and `message` are set where the
    launcher knows more than the attempt itself could say, such as that its machine was lost.
    """

    handle: Handle
    exit_code: int
    timed_out: bool = False
    cause: Cause | None = None
    message: str = ""


class Launcher(ABC):
    """Runs attempts: `python -m tokexp.worker FOLDER`, or the same in this process.

    A launcher may queue; it never runs an attempt twice and knows nothing about plans. Use as a context manager.
    """

    blocking: ClassVar[bool] = False
    """Whether `poll` itself runs attempts; then `cancel` may be called from a signal handler meanwhile."""

    sends_whole: ClassVar[bool] = False
    """Whether tasks may be submitted before what they come after has ended, so that no process has to live on."""

    poll_seconds: float = 0.1
    """Time between two calls of `poll` while nothing happens."""

    def submit_many(self, tasks: Sequence[Task]) -> list[Handle]:
        """Take several attempts, in order; those that come after others of the list stand behind them.

        Raises TokexpError if that is refused; attempts that were not taken then have no trace of it in their folders.
        """
        return [self.submit(task.folder, task.resources) for task in tasks]

    def adopt(self, folder: Path) -> Handle | None:
        """Return a handle if an attempt, submitted by whomever, is still queued or running here; `poll` reports it.

        None if it is not known, or if this launcher keeps nothing beyond its own process.
        """
        return None

    def fitted(self, kind: str, asked: Resources) -> Resources:
        """Return what a stage of this kind gets here; a cluster's profile may say more than the experiment."""
        return asked

    @abstractmethod
    def submit(self, folder: Path, resources: Resources) -> Handle:
        """Take an attempt's folder (with its `job.json`) to be run. Returns at once, except where that is the point."""

    @abstractmethod
    def poll(self) -> list[Ended]:
        """Return the attempts that ended since the last call, each once."""

    @abstractmethod
    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """Ask an attempt to save and stop, or end it now (`force`). It is reported by `poll` like any other."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything. Attempts that still run are left to finish by themselves."""

    def __enter__(self) -> "Launcher":
        """Return self."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self.close()
