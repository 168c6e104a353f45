"""The processes of one SLURM job: which of them this is, and how they find one another for torch.distributed."""

from __future__ import annotations

import os
import socket
import threading
import time
import zlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path

from tokexp.durable import write_atomic
from tokexp.launch.slurm_commands import ask, fields

FIRST_ENDED = "first-ended"
"""In an attempt's folder: which incarnation of its job has seen its first process end."""

PATIENCE = 30.0
"""Seconds that the other processes have to end by themselves once the first one has."""

_PORTS = range(20_000, 60_000)


@dataclass(frozen=True)
class Member:
    """This process among those of its job. `job` is `123` or `123_4`; `incarnation` changes when it is requeued."""

    job: str
    restarts: int
    rank: int
    local_rank: int
    world: int
    nodes: str

    @classmethod
    def here(cls) -> Member:
        """Read the environment that srun gives to every process."""
        given = os.environ.get
        array, index = given("SLURM_ARRAY_JOB_ID"), given("SLURM_ARRAY_TASK_ID")
        return cls(
            job=f"{array}_{index}" if array and index else given("SLURM_JOB_ID", ""),
            restarts=int(given("SLURM_RESTART_COUNT", "0")),
            rank=int(given("SLURM_PROCID", "0")),
            local_rank=int(given("SLURM_LOCALID", "0")),
            world=int(given("SLURM_STEP_NUM_TASKS") or given("SLURM_NTASKS") or "1"),
            nodes=given("SLURM_STEP_NODELIST") or given("SLURM_JOB_NODELIST") or "",
        )

    @property
    def incarnation(self) -> str:
        """Name this run of the job."""
        return f"{self.job}.{self.restarts}"

    def describe(self, environment: MutableMapping[str, str]) -> None:
        """Set what torch.distributed reads; a process that is alone must find nothing of the kind."""
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            environment.pop(name, None)
        if self.world > 1:
            # The same for all processes, and another one when the job is requeued, as the old one may still be taken.
            port = _PORTS[zlib.crc32(self.incarnation.encode()) % len(_PORTS)]
            environment.update(
                RANK=str(self.rank), LOCAL_RANK=str(self.local_rank), WORLD_SIZE=str(self.world),
                MASTER_ADDR=address(first_node(self.nodes)), MASTER_PORT=str(port),
            )  # fmt: skip


def first_node(nodes: str) -> str:
    """Return the first machine of a list such as `gpu[03-05,9],login`; an empty one is this machine."""
    head, bracket, rest = nodes.partition("[")
    if not bracket or "," in head:
        return head.split(",")[0] or socket.gethostname()
    first = rest.partition("]")[0].split(",")[0].split("-")[0]
    return head + first


def address(node: str) -> str:
    """Return a name or number by which a node can be reached: SLURM's names need not be host names."""
    try:
        socket.getaddrinfo(node, None)
    except OSError:
        answer = ask("scontrol", "--oneliner", "show", "node", node)
        return fields(answer.text).get("NodeAddr", node) if answer.answered else node
    return node


def say_first_ended(folder: Path, member: Member) -> None:
    """Let the other processes of the job know that the first one has ended, in the folder of their attempt."""
    if member.world > 1:
        write_atomic(folder / FIRST_ENDED, member.incarnation.encode())


def end_with_first(folder: Path, member: Member) -> None:
    """End this process a while after the first one has: it may wait for one that found nothing to do."""

    def watch() -> None:
        while _said(folder) != member.incarnation:
            time.sleep(1.0)
        time.sleep(PATIENCE)
        # What was computed here is of no use to anybody, and the main thread waits inside a library.
        os._exit(0)

    threading.Thread(target=watch, name="first-ended", daemon=True).start()


def wait_for_first(folder: Path, member: Member) -> None:
    """Wait until the first process of the job has ended, but not for long."""
    until = time.monotonic() + PATIENCE
    while _said(folder) != member.incarnation and time.monotonic() < until:
        time.sleep(0.5)


def _said(folder: Path) -> str:
    try:
        return (folder / FIRST_ENDED).read_text()
    except OSError:
        return ""
