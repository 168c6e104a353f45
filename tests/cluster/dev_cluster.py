"""The development cluster as tests see it: SLURM's commands, and what can be done to jobs and nodes."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SCRIPT = Path(__file__).parents[2] / "slurm" / "dev_cluster.sh"
PROFILE = SCRIPT.with_name("dev.yaml")
CANNOT = 2
"""The script's exit code where a cluster cannot be had."""


class Run(NamedTuple):
    """One time that SLURM ran a job: a requeued job has several."""

    job: str
    name: str
    state: str
    nodes: str


def wait_for(what: str, seconds: float, condition: Callable[[], Any], pause: float = 0.2) -> Any:
    """Return the first true answer of a condition; an AssertionError says what did not happen in time."""
    until = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}"
        time.sleep(pause)
    return answer


def script(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run dev_cluster.sh on the cluster in a folder."""
    given = {**os.environ, "TOKEXP_CLUSTER": str(folder), **environment}
    return subprocess.run([str(SCRIPT), *arguments], env=given, capture_output=True, text=True)


@dataclass(frozen=True)
class DevCluster:
    """A running cluster in `folder`; SLURM's commands find it by the variable SLURM_CONF."""

    folder: Path
    since: str
    """From when on jobs count, as sacct reads it: a cluster that was there before has had others."""

    def run(self, *command: str) -> str:
        """Return what one of SLURM's commands prints. It must succeed."""
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def queue(self, ref: str, state: str = "all") -> list[str]:
        """Return the live jobs of a sweep, as `123_4`; state: such as RUNNING."""
        lines = self.run("squeue", "--noheader", "--array", f"--states={state}", "--format=%i %j %T").splitlines()
        rows = [line.split() for line in lines]
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED")
        return [job for job, name, word in rows if name.startswith(ref) and not word.startswith(over)]

    def runs(self, ref: str) -> list[Run]:
        """Return what the accounting knows of a sweep's jobs, in the order of their starts."""
        columns = "--format=JobID,JobName,State,NodeList"
        text = self.run("sacct", "-DXPn", f"--starttime={self.since}", columns)
        found = (Run(*line.split("|")) for line in text.splitlines())
        return [run for run in found if run.name.startswith(ref)]

    def intrude(self, node: str, seconds: int) -> None:
        """Submit a job of the highest partition that wants a whole node, and takes it from preemptable ones."""
        options = ("--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null", "--job-name=intruder")
        self.run("sbatch", *options, f"--wrap=sleep {seconds}")

    def kill_node(self, node: str) -> None:
        """End a node's daemon and all of its jobs' processes at once, as a power cut would."""
        assert script(self.folder, "node", node, "down").returncode == 0

    def start_node(self, node: str) -> None:
        """Start a node's daemon again."""
        assert script(self.folder, "node", node, "up").returncode == 0
