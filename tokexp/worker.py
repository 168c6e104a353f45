"""One attempt at one stage: `python -m tokexp.worker FOLDER`, with everything it needs in the folder's `job.json`.

Takes the stage's claim, checks the inputs, runs the stage from its newest good checkpoint, publishes the output, and
writes down what happens in `events.jsonl`. Ends with 0 (output published, or it was there), 1 (failed; an event says
why), 3 (stopped on request; work is saved) or 4 (another attempt holds the claim).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from tokexp.data.listing import image_counts
from tokexp.errors import DamagedError, InputError, TokexpError
from tokexp.launch.allowance import seconds_used, within
from tokexp.launch.base import CLAIMED, DONE, EVENTS_FILE, FAILED, JOB_FILE, LOG_FILE, STOP_FILE, STOPPED
from tokexp.launch.causes import cause_of, one_line
from tokexp.launch.meanwhile import meanwhile
from tokexp.ledger.claims import Claim
from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import (
    complete,
    job_record,
    publish,
    read_record,
    set_aside,
    stage_output,
    verify,
    write_result,
)
from tokexp.ledger.provenance import collect_provenance, package_versions
from tokexp.ledger.workspace import Workspace
from tokexp.plan.estimate import shape_of, work_of
from tokexp.registry import implementation
from tokexp.spec.stages import StageJob, StagePayload

if TYPE_CHECKING:
    import torch

    from tokexp.engine.reporting import Reporter
    from tokexp.stages.base import StageContext, StageResult

BEAT_SECONDS = 10.0
"""Time between two signs of life of a claim; its lease is several times as long."""

PROGRESS_SECONDS = 0.5
"""Least time between two progress events."""

_LOOK_SECONDS = 0.2


class DamagedInputError(DamagedError):
    """Outputs of earlier stages are missing or not what was published; `keys` says which."""

    def __init__(self, found: dict[str, str]) -> None:
        """Take what is wrong by stage key."""
        super().__init__("; ".join(f"the input {key[:10]} cannot be used: {what}" for key, what in found.items()))
        self.keys = list(found)


class StopRequest:
    """Whether an attempt should save and end, and why: a signal, a stop file in its folder, or a lost claim.

    alone: the attempt has this process to itself, which may therefore be ended with it.
    """

    def __init__(self, folder: Path, *, alone: bool = False) -> None:
        """Watch the folder of an attempt."""
        self.alone = alone
        self._file = folder / STOP_FILE
        self._reason: str | None = None
        self._looked = 0.0

    def request(self, reason: str) -> None:
        """Ask for an end; the first reason stays. Safe to call from signal handlers and threads."""
        if self._reason is None:
            self._reason = self._written() or reason

    def __call__(self) -> bool:
        """Return whether to stop. Cheap enough for every step: the file is looked for a few times per second."""
        now = time.monotonic()
        if self._reason is None and now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._reason = self._written()
        return self._reason is not None

    @property
    def reason(self) -> str | None:
        """Return why: signal, cancel, timeout, budget or claimed; None if nobody asked."""
        return self._reason

    def _written(self) -> str | None:
        try:
            return self._file.read_text().strip() or "cancel"
        except OSError:
            return None


class EventReporter:
    """Turns what a stage says into events. A full disk does not fail the work here; it will where it matters."""

    def __init__(self, log: EventLog) -> None:
        """Take the attempt's log."""
        self._log = log
        self._last = 0.0
        self._start: tuple[float, int] | None = None

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Append a metrics event."""
        self._append("metrics", step=step, values=values)

    def progress(self, done: int, total: int, unit: str) -> None:
        """Append a progress event, at most every half second; `rate` is units per second since the first call."""
        now = time.monotonic()
        if self._start is None or done < self._start[1]:
            self._start = (now, done)
        if done < total and now - self._last < PROGRESS_SECONDS:
            return
        self._last = now
        since, first = self._start
        rate = (done - first) / (now - since) if now > since else 0.0
        self._append("progress", done=done, total=total, unit=unit, rate=round(rate, 3))

    def checkpoint(self, step: int, file: str) -> None:
        """Append a checkpoint event."""
        self._append("checkpoint", step=step, file=file)

    def resumed(self, step: int) -> None:
        """Append a resumed event."""
        self._append("resumed", step=step)

    def _append(self, kind: str, **fields: Any) -> None:
        try:
            self._log.append(kind, **fields)
        except OSError as error:
            sys.stderr.write(f"an event was not written: {error}\n")


def run_attempt(folder: Path, stop: StopRequest) -> int:
    """Carry out the attempt in `folder` and return its exit code. Raises nothing that belongs to the stage."""
    job = StageJob.model_validate_json((folder / JOB_FILE).read_text())
    workspace = Workspace(Path(job.workspace))
    final = workspace.output(job.payload.kind, job.key)
    if int(os.environ.get("RANK", "0")) > 0:
        return _run_member(job, workspace, folder, stop)
    if complete(final) and not verify(final):
        return DONE
    with EventLog(folder / EVENTS_FILE) as log:
        claim = Claim.take(workspace, job.key, folder.name)
        if claim is None:
            log.append("stopped", reason="claimed")
            return CLAIMED
        with claim, _beating(claim, stop):
            # Another attempt may have finished between the look and the claim, or what it left is damaged.
            if complete(final):
                if not verify(final):
                    return DONE
                set_aside(final)
            return _run_claimed(job, workspace, folder, log, claim, stop)


def _run_claimed(
    job: StageJob, workspace: Workspace, folder: Path, log: EventLog, claim: Claim, stop: StopRequest
) -> int:
    used, started = seconds_used(folder), time.monotonic()  # Before the event, which waits for the disk.
    log.append(
        "started", attempt=folder.name, key=job.key, kind=job.payload.kind, label=job.label, seed=job.seed,
        inputs=job.inputs, pid=os.getpid(), host=socket.gethostname(), versions=package_versions(), gpus=job.gpus,
    )  # fmt: skip
    with within(folder, job.allowance, started - used, log, stop.request, ends=stop.alone):
        return _work(job, workspace, folder, log, claim, stop, started)


def _work(
    job: StageJob, workspace: Workspace, folder: Path, log: EventLog, claim: Claim, stop: StopRequest, started: float
) -> int:
    try:
        if stop():  # Cancelled before it began: a stage that takes no steps would not look.
            return _stopped(log, stop)
        inputs = _checked_inputs(job, workspace)
        with stage_output(workspace, job.payload.kind, job.key, folder.name) as output:
            context = _context(job, workspace, output, inputs, EventReporter(log), stop)
            result = _run_stage(job, context)
            if not claim.beat():
                stop.request("claimed")
                return _stopped(log, stop)
            publish(
                output, workspace.output(job.payload.kind, job.key), job_record(job, folder.name, collect_provenance())
            )
    except Exception as error:
        if type(error).__name__ == "Stopped":
            return _stopped(log, stop)
        return _failed(error, folder, log)
    except BaseException:
        log.append("stopped", reason="signal")
        raise
    facts = {"flops": _operations(job, workspace), **result.facts}
    log.append("done", metrics=result.metrics, facts=facts, seconds=round(time.monotonic() - started, 3))
    return DONE


def _run_stage(job: StageJob, context: StageContext) -> StageResult:
    import torch

    from tokexp.engine.processes import join_group

    before = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        join_group(context.device)
        result: StageResult = implementation("stages", job.payload.kind)(job.payload).run(context)
    finally:
        torch.set_num_threads(before)
    write_result(context.output, result.metrics, result.facts)
    return result


def _run_member(job: StageJob, workspace: Workspace, folder: Path, stop: StopRequest) -> int:
    """Take part in a stage that several processes share: the first one has the claim and publishes."""
    from tokexp.engine.reporting import Silent, Stopped

    with tempfile.TemporaryDirectory(prefix="member-") as output:
        inputs = {role: workspace.output(role, key) for role, key in job.inputs.items()}
        try:
            _run_stage(job, _context(job, workspace, Path(output), inputs, Silent(), stop))
        except Stopped:
            return STOPPED
        except Exception:
            _log_traceback(folder)
            return FAILED
    return DONE


def _context(
    job: StageJob, workspace: Workspace, output: Path, inputs: dict[str, Path], report: Reporter, stop: StopRequest
) -> StageContext:
    from tokexp.stages.base import StageContext

    scratch = workspace.work(job.key)
    scratch.mkdir(parents=True, exist_ok=True)
    return StageContext(job, output, scratch, inputs, _device(job), report, stop)


def _device(job: StageJob) -> torch.device:
    import torch

    there = torch.cuda.is_available()
    if job.device == "cuda" and not there:
        raise InputError("resources.device is cuda, and there is no usable GPU on this machine; use auto or cpu")
    if job.device == "cpu" or not there:
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device("cuda", local % torch.cuda.device_count())
    torch.cuda.set_device(chosen)
    return chosen


def _checked_inputs(job: StageJob, workspace: Workspace) -> dict[str, Path]:
    """Return role to folder after comparing every file with its digest. Raises DamagedInputError with what differs."""
    folders = {role: workspace.output(role, key) for role, key in job.inputs.items()}
    damaged: dict[str, str] = {}
    for role, folder in folders.items():
        problems = verify(folder) if complete(folder) else ["it is not there"]
        if problems:
            damaged[job.inputs[role]] = problems[0]
    if damaged:
        raise DamagedInputError(damaged)
    return folders


def _operations(job: StageJob, workspace: Workspace) -> float | None:
    """Return the stage's size, by which later plans judge this machine's speed; None if it cannot be known."""
    payloads: list[Any] = [job.payload]
    try:
        for role, key in job.inputs.items():
            record = read_record(workspace.output(role, key))
            payloads.append(TypeAdapter(StagePayload).validate_json(json.dumps(record["payload"])))
        data = next(payload.data for payload in payloads if getattr(payload, "data", None) is not None)
        return work_of(job.payload, shape_of(payloads, image_counts(data, strict=False))).operations
    except (TokexpError, ValueError, KeyError, StopIteration):
        return None


def _stopped(log: EventLog, stop: StopRequest) -> int:
    reason = stop.reason or "signal"
    log.append("stopped", reason=reason)
    return CLAIMED if reason == "claimed" else STOPPED


def _failed(error: Exception, folder: Path, log: EventLog) -> int:
    _log_traceback(folder)
    damaged = {"damaged": error.keys} if isinstance(error, DamagedInputError) else {}
    log.append("failed", cause=cause_of(error, folder), message=one_line(error), **damaged)
    return FAILED


def _log_traceback(folder: Path) -> None:
    with suppress(OSError), (folder / LOG_FILE).open("a") as file:
        traceback.print_exc(file=file)


@contextmanager
def _beating(claim: Claim, stop: StopRequest) -> Iterator[None]:
    """Keep a claim alive from a thread of its own; a claim that was lost asks the attempt to stop."""

    def beat() -> bool:
        try:
            held = claim.beat()
        except OSError:
            return True  # A full or slow disk: the lease outlasts several of these.
        if not held:
            stop.request("claimed")
        return held

    with meanwhile(beat, BEAT_SECONDS, "claim"):
        yield


def main(arguments: list[str] | None = None) -> int:
    """Run the attempt whose folder is the only argument; signals ask it to save and stop."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or not (Path(given[0]) / JOB_FILE).is_file():
        sys.stderr.write("usage: python -m tokexp.worker FOLDER, where FOLDER holds a job.json\n")
        return 2
    folder = Path(given[0]).absolute()
    job = json.loads((folder / JOB_FILE).read_text())
    if job.get("cwd") and Path(job["cwd"]).is_dir():
        os.chdir(job["cwd"])
    stop = StopRequest(folder, alone=True)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, lambda *_: stop.request("signal"))
    return run_attempt(folder, stop)


if __name__ == "__main__":
    sys.exit(main())
