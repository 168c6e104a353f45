"""Why an attempt failed: the word that restarts are counted by, and the line that a person reads."""

import re
from pathlib import Path

from tokexp.durable import is_disk_full
from tokexp.errors import DamagedError, InputError, TokexpError
from tokexp.launch.recovery import Cause

_DISK_TEXT = re.compile(
    r"File too large|os error (27|28|122)\b|PytorchStreamWriter failed|inline_container\.cc|iostream error"
)
_MEMORY_TEXT = re.compile(r"can't allocate memory|out of memory|Cannot allocate memory", re.IGNORECASE)


def cause_of(error: BaseException, disk: Path) -> Cause:
    """Return why an attempt that writes to `disk` failed, in the words that the budget of restarts is kept by."""
    text = str(error)
    # Writers in other languages report the system's message only as text.
    if is_disk_full(error, disk) or (not isinstance(error, TokexpError) and _DISK_TEXT.search(text)):
        return "disk"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "memory"
    if isinstance(error, RuntimeError) and _MEMORY_TEXT.search(text):
        return "memory"
    if isinstance(error, FloatingPointError):
        return "nan"
    return "input" if isinstance(error, (InputError, DamagedError)) else "code"


def one_line(error: BaseException) -> str:
    """Return an error as one line for a person; the type leads where the message was not written for people."""
    text = " ".join(str(error).split())[:500]
    return text if isinstance(error, TokexpError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
