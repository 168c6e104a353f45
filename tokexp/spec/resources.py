"""The `resources` and `track` blocks: what a stage runs on, and where runs are recorded. Neither decides a result."""

from typing import Annotated, Literal

from pydantic import Field

from tokexp.spec.base import Spec
from tokexp.spec.units import ByteCount, Duration


class Retries(Spec):
    """How often an attempt is started again, by why it ended; those in a row without a newer checkpoint.

    A restart that got further than all attempts before it starts the count of preemptions, time limits and lost
    machines anew.
    """

    preempted: int | None = Field(None, ge=0, le=10_000, description="Preemptions; none: as long as it gets on.")
    timeout: int = Field(2, ge=0, le=1000, description="Time limits that were reached.")
    lost: int = Field(3, ge=0, le=1000, description="Machines or processes that ended without a word.")
    memory: int = Field(1, ge=0, le=100, description="Too little memory.")
    code: int = Field(0, ge=0, le=100, description="Errors of the program.")
    nan: int = Field(0, ge=0, le=100, description="Losses that were not finite.")
    disk: int = Field(0, ge=0, le=100, description="Disks that were full.")


class Resources(Spec):
    """What one attempt of a stage may use."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if one is asked for or visible.")
    nodes: int = Field(1, ge=1, le=1024, description="Machines.")
    gpus: int = Field(0, ge=0, le=64, description="GPUs on each machine; each gets its own process.")
    processes: int = Field(
        1, ge=1, le=256, description="Processes on each machine that share a stage where it has no GPUs: they encode "
        "parts of the images, or train on parts of a batch."
    )  # fmt: skip
    cpus: int = Field(2, ge=1, le=1024, description="CPU cores for each process; also its number of threads.")
    memory: ByteCount | None = Field(None, description="Memory on each machine, such as '64 GB'.")
    time: Duration | None = Field(None, description="Longest time for one attempt, such as '4 h'.")
    retries: Retries = Field(Retries(), description="How often an attempt is started again.")

    def members(self) -> int:
        """Return how many processes run on each machine: one for each GPU, else what was asked for."""
        return self.gpus or self.processes

    def cores(self) -> int:
        """Return the CPU cores that an attempt takes on one machine: those of each process that has no GPU."""
        return self.cpus if self.gpus else self.cpus * self.processes


ResourceName = Literal["default", "tokenizer", "tokens", "images", "adapt", "pretrain", "downstream", "evaluate"]
ResourcesSpec = Annotated[
    dict[ResourceName, Resources], Field(description="Resources for a stage kind, and `default` for the others.")
]


class TrackSpec(Spec):
    """Where MLflow records this experiment."""

    enabled: bool = Field(True, description="Whether anything is recorded in MLflow.")
    uri: str | None = Field(None, description="Tracking server or store; the workspace's own SQLite if not given.")
    experiment: str | None = Field(None, max_length=500, description="Name in MLflow; the experiment's name if absent.")
