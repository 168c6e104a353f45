"""SLURM's own commands, asked with a time limit: any of them may be missing, slow or refuse to answer."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

ANSWER_SECONDS: Final = 20.0
"""How long a command is waited for."""

_IDS_AT_ONCE = 400


@dataclass(frozen=True)
class Answer:
    """What a command printed. `answered` is False if it is not installed, took too long or ended with an error."""

    answered: bool
    text: str = ""
    error: str = ""


def ask(*command: str, seconds: float = ANSWER_SECONDS) -> Answer:
    """Run a command of SLURM and return its answer; never raises."""
    # Lists of array elements are cut off after 64 characters unless this is 0.
    environment = {**os.environ, "SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Answer(False, error=f"{command[0]} did not answer within {seconds:g} s")
    except OSError as error:
        return Answer(False, error=f"{command[0]}: {error.strerror}")
    text, trouble = ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace").strip()
    return Answer(ended.returncode == 0, text, trouble)


def cancel_jobs(jobs: Iterable[str]) -> None:
    """Take jobs out of the queue; those that run get SIGTERM and, a while later, SIGKILL."""
    _scancel([], jobs)


def cancel_pending(jobs: Iterable[str]) -> None:
    """Take jobs out of the queue if they have not begun; others are left alone."""
    _scancel(["--state=PENDING"], jobs)


def terminate(jobs: Iterable[str]) -> None:
    """Send SIGTERM to the processes of running jobs, and not to their batch shells, which would end at once."""
    _scancel(["--signal=TERM"], jobs)


def requeue(job: str) -> Answer:
    """Ask for a running job to be put back into the queue."""
    return ask("scontrol", "requeue", job)


def show_job(job: str) -> dict[str, str]:
    """Return what `scontrol` says of a job by field name; nothing if it does not know it or does not answer."""
    answer = ask("scontrol", "--oneliner", "show", "job", job)
    lines = answer.text.splitlines() if answer.answered else []
    return fields(lines[0]) if lines else {}


def fields(line: str) -> dict[str, str]:
    """Return the `Name=value` words of a line of `scontrol --oneliner`; values may contain `=`, not blanks."""
    return {name: value for name, is_field, value in (word.partition("=") for word in line.split()) if is_field}


def gathered(jobs: Iterable[str]) -> list[str]:
    """Return ids with those of one array put together (`12_[0-4,7]`): SLURM takes each id as a request of its own."""
    arrays: dict[str, list[int]] = {}
    alone: list[str] = []
    for job in dict.fromkeys(jobs):
        base, is_element, index = job.partition("_")
        if is_element:
            arrays.setdefault(base, []).append(int(index))
        else:
            alone.append(job)
    return alone + [f"{base}_[{','.join(_ranges(sorted(indices)))}]" for base, indices in arrays.items()]


def _ranges(indices: Sequence[int]) -> Iterator[str]:
    first = last = indices[0]
    for index in [*indices[1:], None]:
        if index != last + 1:
            yield str(first) if first == last else f"{first}-{last}"
            first = index if index is not None else first
        last = index if index is not None else last


def _scancel(options: list[str], jobs: Iterable[str]) -> None:
    ids = gathered(jobs)
    for start in range(0, len(ids), _IDS_AT_ONCE):
        ask("scancel", *options, *ids[start : start + _IDS_AT_ONCE])
