"""The local launcher: attempts as processes on this machine, as many at once as cores and GPUs allow.

Every attempt is a session of its own, so that neither a Ctrl-C in the terminal nor the controller's end reaches it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokexp.launch.base import LOG_FILE, STOP_FILE, STOPPED, Ended, Handle, Launcher
from tokexp.launch.slots import Share, Slots
from tokexp.spec.resources import Resources

GRACE = 30.0
"""Seconds that an attempt has to save after its time is up, and its other processes after its first one ended."""

_PASSES = 16
"""How often an attempt in the queue lets smaller ones go first."""


@dataclass
class _Waiting:
    handle: Handle
    resources: Resources
    passed: int = 0


@dataclass
class _Running:
    handle: Handle
    share: Share
    processes: list[subprocess.Popen[bytes]]
    deadline: float | None
    timed_out: bool = False
    kill_at: float | None = None


class LocalLauncher(Launcher):
    """A queue and a pool of processes. `jobs` bounds the attempts at once (None: what the machine holds)."""

    def __init__(
        self,
        jobs: int | None = None,
        slots: Slots | None = None,
        command: Sequence[str] = (sys.executable, "-m", "tokexp.worker"),
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        """Take limits, the worker's command without the attempt's folder, and where warnings go."""
        self._jobs, self._slots = jobs, slots or Slots()
        self._command, self._warn = tuple(command), warn
        self._queue: list[_Waiting] = []
        self._running: list[_Running] = []
        self._ended: list[Ended] = []
        self._warned: set[str] = set()

    def submit(self, folder: Path, resources: Resources) -> Handle:
        """Queue an attempt and start what fits."""
        shortage = self._slots.shortage(resources)
        if shortage is not None and shortage not in self._warned:
            self._warned.add(shortage)
            self._warn(f"a stage asks for {shortage}: it runs alone with what this machine has")
        handle = Handle(folder)
        self._queue.append(_Waiting(handle, resources))
        self._start_waiting()
        return handle

    def poll(self) -> list[Ended]:
        """Return what ended, stop what is over its time, and start what fits now."""
        for run in list(self._running):
            self._check(run)
        self._start_waiting()
        ended, self._ended = self._ended, []
        return ended

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """Send SIGTERM (or SIGKILL) to an attempt; one that still waits leaves the queue."""
        for waiting in [entry for entry in self._queue if entry.handle == handle]:
            self._queue.remove(waiting)
            self._ended.append(Ended(handle, STOPPED))
        for run in [entry for entry in self._running if entry.handle == handle]:
            _signal(run.processes, signal.SIGKILL if force else signal.SIGTERM)

    def close(self) -> None:
        """Forget the queue; attempts that run finish alone."""
        self._queue.clear()
        self._running.clear()

    def _start_waiting(self) -> None:
        blocked: list[_Waiting] = []
        for waiting in list(self._queue):
            full = self._jobs is not None and len(self._running) >= self._jobs
            if full or any(earlier.passed >= _PASSES for earlier in blocked):
                return
            share = self._slots.take(waiting.resources)
            if share is None:
                blocked.append(waiting)
                continue
            for earlier in blocked:
                earlier.passed += 1
            self._queue.remove(waiting)
            self._start(waiting, share)

    def _start(self, waiting: _Waiting, share: Share) -> None:
        folder, resources = waiting.handle.folder, waiting.resources
        members = max(1, len(share.gpus)) if resources.gpus else resources.processes
        shared = _group_environment(members)
        processes: list[subprocess.Popen[bytes]] = []
        with (folder / LOG_FILE).open("ab") as log:
            for rank in range(members):
                environment = {**os.environ, **_environment(share, resources), **shared, **_rank(rank, members)}
                processes.append(
                    subprocess.Popen(
                        [*self._command, str(folder)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        env=environment, start_new_session=True,
                    )
                )  # fmt: skip
        deadline = None if resources.time is None else time.monotonic() + resources.time
        self._running.append(_Running(waiting.handle, share, processes, deadline))

    def _check(self, run: _Running) -> None:
        codes = [process.poll() for process in run.processes]
        now = time.monotonic()
        if all(code is not None for code in codes):
            self._running.remove(run)
            self._slots.give_back(run.share)
            # The first process publishes; what became of the others no longer matters once it is done.
            self._ended.append(Ended(run.handle, codes[0] or 0, run.timed_out))
            return
        if run.deadline is not None and now > run.deadline and not run.timed_out:
            run.timed_out = True
            (run.handle.folder / STOP_FILE).write_text("timeout")
            _signal(run.processes, signal.SIGTERM)
        # Others that ended well have done their part; the first one may still put the parts together.
        over = run.timed_out or codes[0] is not None or any(code not in (None, 0) for code in codes)
        if over and run.kill_at is None:
            run.kill_at = now + GRACE
        if run.kill_at is not None and now > run.kill_at:
            _signal(run.processes, signal.SIGKILL)


def _signal(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        # poll() reaps first, so that a number that was given to another process is never signalled.
        if process.poll() is None:
            process.send_signal(number)


def _environment(share: Share, resources: Resources) -> dict[str, str]:
    own = {"OMP_NUM_THREADS": str(min(resources.cpus, share.cpus)), "PYTHONUNBUFFERED": "1"}
    if share.gpus:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(share.gpus)
    elif resources.device == "cpu":
        own["CUDA_VISIBLE_DEVICES"] = ""
    return own


def _group_environment(members: int) -> dict[str, str]:
    if members == 1:
        return {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(members)}


def _rank(rank: int, members: int) -> dict[str, str]:
    return {} if members == 1 else {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def build(jobs: int | None = None, warn: Callable[[str], None] = lambda message: None) -> LocalLauncher:
    """Return a local launcher."""
    return LocalLauncher(jobs, warn=warn)
