"""What runs inside a SLURM job: one attempt at a stage.

submitit starts `run_attempt` with the path of a folder; everything else is read from files. A job that was requeued,
with or without a warning, is started the same way and goes on from its attempt's newest good checkpoint.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tokexp import worker
from tokexp.launch.base import CLAIMED, DONE, JOB_FILE, LOG_FILE, STOPPED
from tokexp.launch.slurm_group import Member, end_with_first, say_first_ended, wait_for_first
from tokexp.launch.slurm_record import ArrayRecord, read_array
from tokexp.launch.slurm_stop import JobStop, Restarts
from tokexp.ledger.claims import holder
from tokexp.ledger.outputs import complete
from tokexp.ledger.workspace import Workspace

HELD_SECONDS: Final = 300.0
"""How long a job waits, with its machine, for another attempt at its stage; then it goes back into the queue."""

_LOOK_SECONDS = 2.0


def run_attempt(folder: str) -> None:
    """Carry out the attempt in `folder` in this process; ends the process unless the stage is done."""
    attempt, member = Path(folder), Member.here()
    remove_leftovers()
    with _log(attempt / LOG_FILE):
        code = _first(attempt, member) if member.rank == 0 else _other(attempt, member)
    if code != DONE:
        raise SystemExit(code)


def _first(attempt: Path, member: Member) -> int:
    rules = _rules()
    restarts = Restarts(attempt, member, rules)
    try:
        refused = restarts.after_loss()
        return _until_settled(attempt, member, rules, restarts) if refused is None else refused
    finally:
        say_first_ended(attempt, member)


def _until_settled(attempt: Path, member: Member, rules: ArrayRecord, restarts: Restarts) -> int:
    """Run the attempt, after whoever holds its stage has let go of it."""
    job = _prepare(attempt, member)
    while True:
        stop = JobStop(attempt, member, rules)
        stop.install()
        if not _wait_for_claim(job, stop):
            if stop():
                return restarts.after_stop(stop.reason)
            return restarts.again()
        code = worker.run_attempt(attempt, stop)
        if code == STOPPED:
            return restarts.after_stop(stop.reason)
        if code != CLAIMED:
            return code


def _other(attempt: Path, member: Member) -> int:
    """Take part as one of several processes; the first one decides what becomes of the job."""
    job = _prepare(attempt, member)
    end_with_first(attempt, member)
    stop = JobStop(attempt, member, _rules())
    stop.install()
    code = worker.run_attempt(attempt, stop)
    if code in (DONE, STOPPED):
        return DONE
    # The job counts as failed if one of its processes does, and what comes after it would not start.
    wait_for_first(attempt, member)
    return DONE if complete(_output(job)) else code


def _prepare(attempt: Path, member: Member) -> dict[str, Any]:
    job: dict[str, Any] = json.loads((attempt / JOB_FILE).read_text())
    if job.get("cwd") and Path(job["cwd"]).is_dir():
        os.chdir(job["cwd"])
    os.environ.setdefault("OMP_NUM_THREADS", str(job.get("threads", 1)))
    member.describe(os.environ)
    return job


def _wait_for_claim(job: dict[str, Any], stop: JobStop) -> bool:
    """Wait until nobody alive holds the stage; False if a stop was asked for or it took too long.

    The worker is not called before: it would write to the events, which an earlier incarnation of this attempt, on a
    machine that SLURM only believes dead, may still do.
    """
    workspace, output = Workspace(Path(job["workspace"])), _output(job)
    until = time.monotonic() + HELD_SECONDS
    while (held := holder(workspace, job["key"])) is not None and held.alive and not complete(output):
        if stop() or time.monotonic() > until:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def _output(job: dict[str, Any]) -> Path:
    return Workspace(Path(job["workspace"])).output(job["payload"]["kind"], job["key"])


def _rules() -> ArrayRecord:
    found = read_array(Path(os.environ["SUBMITIT_FOLDER"]))
    return found or ArrayRecord("", (), 0, 90, requeue=False)


def remove_leftovers() -> None:
    """Remove a result that submitit was writing when an earlier incarnation was killed; it would refuse another."""
    from submitit import JobEnvironment

    result = JobEnvironment().paths.result_pickle
    result.with_suffix(result.suffix + ".save_tmp").unlink(missing_ok=True)


@contextmanager
def _log(file: Path) -> Iterator[None]:
    """Send all that this process and its children print to a file while the block runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    target = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.dup2(target, 1)
        os.dup2(target, 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in enumerate(kept, start=1):
            os.dup2(before, number)
            os.close(before)
        os.close(target)
