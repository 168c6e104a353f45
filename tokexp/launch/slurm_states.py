"""How jobs stand, whatever of SLURM answers: `squeue` for all of them, `sacct` for those that are gone, `scontrol`.

`squeue` knows every live job and the ones that ended in the last minutes, so what it does not list has ended, even if
`sacct` still says that it runs (its records lag, and some never arrive). `sacct` needs accounting, which not every
cluster has.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from tokexp.launch.slurm_commands import Answer, ask, fields

State = Literal[
    "pending", "running", "completed", "failed", "cancelled", "timeout", "preempted", "node_fail", "out_of_memory",
    "dependency", "lost", "unknown",
]  # fmt: skip
"""lost: SLURM knows nothing of the job any more. unknown: SLURM did not answer. dependency: it never began, because
a job that it waits for failed."""

LIVE: Final = frozenset[State]({"pending", "running"})

_WORDS: Mapping[str, State] = {
    "PENDING": "pending", "REQUEUED": "pending", "REQUEUE_HOLD": "pending", "REQUEUE_FED": "pending",
    "SPECIAL_EXIT": "pending", "CONFIGURING": "pending", "RESV_DEL_HOLD": "pending",
    "RUNNING": "running", "COMPLETING": "running", "SUSPENDED": "running", "STOPPED": "running",
    "SIGNALING": "running", "STAGE_OUT": "running", "RESIZING": "running",
    "COMPLETED": "completed", "FAILED": "failed", "CANCELLED": "cancelled", "REVOKED": "cancelled",
    "TIMEOUT": "timeout", "DEADLINE": "timeout", "PREEMPTED": "preempted",
    "NODE_FAIL": "node_fail", "BOOT_FAIL": "node_fail", "OUT_OF_MEMORY": "out_of_memory",
}  # fmt: skip

_SIGNALS = frozenset({6, 7, 9, 11, 12, 15})
"""What sacct shows as exit codes where a signal ended a job's last command: it takes 128 off. No worker ends so."""

_NEVER = "DependencyNeverSatisfied"
_ID = re.compile(r"(\d+)(?:_(?:(\d+)|\[([\d,:-]+)(?:%\d+)?\]))?")


@dataclass(frozen=True)
class JobState:
    """How a job stands, why in SLURM's word, its exit code (minus the signal that ended it), and who said so."""

    state: State
    reason: str = ""
    exit_code: int | None = None
    source: str = ""


def job_states(jobs: Iterable[str]) -> dict[str, JobState]:
    """Return the state of jobs given as `123` or `123_4`. Never raises; each command is asked at most once or twice."""
    wanted = set(jobs)
    if not wanted:
        return {}
    answer = _squeue(_bases(wanted))
    found = {job: state for job, state, _ in _queue_lines(answer.text) if job in wanted}
    _add(found, _sacct(wanted - found.keys()), trust_live=not answer.answered)
    unclear = {job for job, state in found.items() if state.state == "failed" and state.exit_code is None}
    if not answer.answered:
        unclear |= wanted - found.keys()
    found.update(_scontrol(unclear))
    other = JobState("lost", source="squeue") if answer.answered else JobState("unknown", _last_line(answer.error))
    return {job: found.get(job, other) for job in wanted}


def queue_of(user: str) -> dict[str, tuple[JobState, str]] | None:
    """Return a user's live jobs and the scripts that they run, in one call; None if SLURM does not answer."""
    answer = ask("squeue", "--noheader", "--array", f"--user={user}", "--format=%i|%T|%r|%o")
    return {job: (state, script) for job, state, script in _queue_lines(answer.text)} if answer.answered else None


def expand(job: str) -> list[str]:
    """Return the jobs that an id stands for: `12_[5-7,9%2]` is 12_5, 12_6, 12_7 and 12_9. None if it is no id."""
    match = _ID.fullmatch(job.strip())
    if match is None:
        return []
    base, index, ranges = match.groups()
    if ranges is None:
        return [base if index is None else f"{base}_{int(index)}"]
    return [f"{base}_{number}" for part in ranges.split(",") for number in _numbers(part)]


def _numbers(part: str) -> Iterator[int]:
    span, _, step = part.partition(":")
    first, _, last = span.partition("-")
    if first.isdigit():
        yield from range(int(first), int(last if last.isdigit() else first) + 1, int(step) if step.isdigit() else 1)


def _last_line(text: str) -> str:
    return (text.splitlines() or ["no reason given"])[-1]


def _bases(jobs: Iterable[str]) -> str:
    return ",".join(sorted({job.partition("_")[0] for job in jobs}, key=int))


def _squeue(bases: str) -> Answer:
    answer = ask("squeue", "--noheader", "--array", "--states=all", f"--jobs={bases}", "--format=%i|%T|%r|%o")
    # A single id that was forgotten is an error; among several it is passed over.
    return Answer(True) if not answer.answered and "Invalid job id" in answer.error else answer


def _queue_lines(text: str) -> Iterator[tuple[str, JobState, str]]:
    for line in text.splitlines():
        parts = line.split("|", 3)
        if len(parts) == 4:
            for job in expand(parts[0]):
                yield job, _state(parts[1], parts[2], "squeue"), parts[3]


def _state(word: str, reason: str, source: str, exit_code: str = "") -> JobState:
    # sacct says `CANCELLED by 1000`, and older ones mark a running job's end by a `+`.
    state = _WORDS.get((word.split() or [""])[0].rstrip("+"), "unknown")
    reason = "" if reason in ("None", "(null)") else reason
    if reason == _NEVER and state in ("pending", "cancelled"):
        state = "dependency"
    return JobState(state, reason, _exit_code(exit_code, source), source)


def _exit_code(text: str, source: str) -> int | None:
    """Return `code:signal` as one number: minus the signal, which a shell or srun passes on as 128 more."""
    code, _, number = text.partition(":")
    if not code.isdigit():
        return None
    if number.isdigit() and int(number):
        return -int(number)
    if source == "sacct" and int(code) in _SIGNALS:
        return -int(code)
    return 128 - int(code) if 128 < int(code) < 160 else int(code)


def _add(found: dict[str, JobState], more: Mapping[str, JobState], *, trust_live: bool) -> None:
    for job, state in more.items():
        if trust_live or state.state not in LIVE:
            found.setdefault(job, state)


def _sacct(jobs: set[str]) -> dict[str, JobState]:
    if not jobs:
        return {}
    columns = "JobID,State,ExitCode,Reason"
    answer = ask("sacct", "--noheader", "--allocations", "--parsable2", f"--format={columns}", f"--jobs={_bases(jobs)}")
    rows = (line.split("|") for line in answer.text.splitlines()) if answer.answered else ()
    return {
        job: _state(row[1], row[3], "sacct", row[2])
        for row in rows
        if len(row) == 4
        for job in expand(row[0])
        if job in jobs
    }


def _scontrol(jobs: set[str]) -> dict[str, JobState]:
    found: dict[str, JobState] = {}
    for base in _bases(jobs).split(",") if jobs else ():
        answer = ask("scontrol", "--oneliner", "show", "job", base)
        for line in answer.text.splitlines() if answer.answered else ():
            known = fields(line)
            state = _state(known.get("JobState", ""), known.get("Reason", ""), "scontrol", known.get("ExitCode", ""))
            found.update({job: state for job in _shown_ids(known) if job in jobs})
    return found


def _shown_ids(known: Mapping[str, str]) -> Sequence[str]:
    base, index = known.get("ArrayJobId"), known.get("ArrayTaskId")
    if base is None or index is None:
        return [known["JobId"]] if "JobId" in known else []
    return expand(f"{base}_{index}" if index.isdigit() else f"{base}_[{index}]")
