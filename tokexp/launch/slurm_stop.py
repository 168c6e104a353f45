"""Why a job on SLURM is asked to stop, and whether SLURM is to run it again.

A warning signal says little: it may announce the time limit, a preemption, or a person's `scancel`. The clock and
`scontrol` tell which, once the work is saved.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from tokexp.launch.attempts import Tail
from tokexp.launch.base import EVENTS_FILE, FAILED, STOPPED
from tokexp.launch.recovery import Cause, RetryBudget
from tokexp.launch.slurm_commands import requeue, show_job
from tokexp.launch.slurm_group import Member
from tokexp.launch.slurm_record import ArrayRecord
from tokexp.ledger.events import EventLog
from tokexp.spec.resources import Retries
from tokexp.worker import StopRequest

EARLY: Final = 70.0
"""Seconds that SLURM may send the warning before it is due."""

_RUNNING = ("RUNNING", "SIGNALING", "SUSPENDED")
_WORDS: Final[dict[Cause, str]] = {
    "timeout": "its time was up", "preempted": "it was preempted", "lost": "its machine or process was lost",
}  # fmt: skip


class JobStop(StopRequest):
    """A stop request whose reason, after a signal, is asked of SLURM when somebody wants to know it."""

    def __init__(self, folder: Path, member: Member, rules: ArrayRecord) -> None:
        """Take the attempt's folder, this process and the job's rules."""
        super().__init__(folder, alone=member.world == 1)
        self._member, self._rules = member, rules
        self._began = time.time()
        self._number: int | None = None
        self._why: str | None = None

    def install(self) -> None:
        """Have signals ask for a stop, in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)  # submitit would write a line into the log

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._number = self._number or number
        self.request("signal")

    @property
    def reason(self) -> str | None:
        """Return why: timeout, preempted, cancel, pruned, claimed, or signal if nobody knows; None if nobody asked."""
        given = super().reason
        if given != "signal" or self._number is None:
            return given
        if self._why is None:
            shown = show_job(self._member.job)
            # SLURM counts a restart as soon as it has decided on one.
            again = int(shown.get("Restarts", "0")) > self._member.restarts
            elapsed = time.time() - self._began
            self._why = reason_of(self._number, shown, self._rules, elapsed, comes_back=again)
        return self._why


def reason_of(number: int, shown: dict[str, str], rules: ArrayRecord, elapsed: float, *, comes_back: bool) -> str:
    """Return why a signal came, from what `scontrol` shows of the job, its rules, and for how long it ran (seconds)."""
    state = shown.get("JobState", "")
    if comes_back or state == "PREEMPTED" or shown.get("PreemptTime", "None") not in ("None", "(null)"):
        return "preempted"
    # Somebody may have changed the limit of a running job; once it is being ended, its end is the present.
    end = _time(shown.get("EndTime", "")) if state in _RUNNING else None
    left = rules.limit - elapsed if end is None else end - time.time()
    if state == "TIMEOUT" or left <= rules.signal_delay + EARLY:
        return "timeout"
    if state in ("CANCELLED", "COMPLETING"):
        return "cancel"
    return "preempted" if number == signal.SIGUSR2 or state in _RUNNING else "signal"


def _time(text: str) -> float | None:
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None


@dataclass(frozen=True)
class Restarts:
    """Decides whether an attempt's job runs again, from the attempt's own events and the job's rules."""

    folder: Path
    member: Member
    rules: ArrayRecord

    def after_stop(self, reason: str | None) -> int:
        """Put the job back into the queue if its work was only interrupted; return the process's exit code."""
        if reason not in ("timeout", "preempted") or not self.rules.requeue:
            return STOPPED
        cause: Cause = "timeout" if reason == "timeout" else "preempted"
        return self._refused(cause) or self.again()

    def after_loss(self) -> int | None:
        """Say whether a job that SLURM runs again after it lost it may go on: None, or else an exit code."""
        tail = Tail(self.folder)
        lost = bool(tail.read()) and tail.last is None
        return self._refused("lost") if lost else None

    def again(self) -> int:
        """Ask SLURM to run the job again. The exit code must not look like success to what waits for it."""
        answer = requeue(self.member.job)
        if not answer.answered and "pending" not in answer.error:  # SLURM may have done it itself.
            os.write(2, f"tokexp: the job was not requeued: {answer.error}\n".encode())
        return STOPPED

    def _refused(self, cause: Cause) -> int | None:
        """Return an exit code, after writing down why, if the budget of restarts is used up."""
        tail = Tail(self.folder)
        tail.read()
        budget = RetryBudget.of(Retries.model_validate(dict(self.rules.retries)))
        budget.count(tail.restarts)
        if budget.allows(cause, tail.step):
            return None
        with EventLog(self.folder / EVENTS_FILE) as log:
            log.append("failed", cause=cause, message=_WORDS[cause] + budget.exhausted(cause))
        return FAILED
