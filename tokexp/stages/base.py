"""What every stage is, what it may use while it runs, and how it says what happens."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tokexp.engine.reporting import Reporter
from tokexp.errors import InputError
from tokexp.spec.stages import StageJob


@dataclass(frozen=True)
class StageContext:
    """Where a stage reads and writes.

    output: an empty folder that becomes the stage's output. scratch: a folder that all attempts of this key share
    (checkpoints). inputs: role to finished output folder. stop: turns true when the attempt should save and end.
    """

    job: StageJob
    output: Path
    scratch: Path
    inputs: Mapping[str, Path]
    device: torch.device
    report: Reporter
    stop: Callable[[], bool]

    def unreadable(self) -> Path | None:
        """Return the workspace's note of which of the data's images cannot be read; None without a fingerprint."""
        name = self.job.fingerprint
        return None if name is None else Path(self.job.workspace) / "unreadable" / f"{name}.json"

    def input(self, role: str) -> Path:
        """Return the folder of an input. Raises InputError if the job does not have it."""
        if role not in self.inputs:
            raise InputError(f"the {self.job.payload.kind} stage needs the input {role!r}, which its job does not name")
        return self.inputs[role]


@dataclass(frozen=True)
class StageResult:
    """What a stage found out: `metrics` are numbers to compare, `facts` is anything else worth keeping (JSON-ready)."""

    metrics: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class Stage(ABC):
    """One unit of work with one output folder, the same for the same key."""

    @abstractmethod
    def run(self, context: StageContext) -> StageResult:
        """Do the work and fill `context.output`. Raises Stopped if `context.stop` turned true on the way."""
