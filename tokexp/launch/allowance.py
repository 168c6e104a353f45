"""How long an attempt may work: its share of a sweep's GPU hours, kept by the attempt itself.

Whoever hands out shares may be gone while attempts work (a sweep that is advanced by ticks), so each attempt knows
its own: `allowance` in `job.json` and, once it was raised, in a file beside it. An attempt counts its own seconds by
its events, over all of its starts, as the ledger does. Shortly before they are used up it is asked to save and stop;
where the work does not look, the process ends itself when they are.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tokexp.durable import write_atomic
from tokexp.launch.base import EVENTS_FILE, STOPPED
from tokexp.launch.meanwhile import meanwhile
from tokexp.ledger.events import EventLog, read_events

ALLOWANCE_FILE: Final = "allowance"
"""In an attempt's folder: seconds that it may work in all, if more than its job says."""

BUDGET: Final = "budget"
"""Why an attempt stops whose seconds are used up."""

_LOOK_SECONDS = 0.05
_MARGIN_SECONDS = (0.5, 5.0)
_MARGIN_SHARE = 0.2


def margin(seconds: float) -> float:
    """Return how long before its end an attempt with so many seconds is asked to save: a fifth, 0.5 to 5 s."""
    return min(_MARGIN_SECONDS[1], max(_MARGIN_SECONDS[0], _MARGIN_SHARE * seconds))


def seconds_used(folder: Path) -> float:
    """Return how long an attempt has worked, in seconds; the time between a death and the next start is nobody's."""
    used, before = 0.0, None
    for event in read_events(folder / EVENTS_FILE)[0]:
        now = float(event["t"])
        if before is not None and event["e"] != "started":
            used += max(0.0, now - before)
        before = now
    return used


def raised(folder: Path) -> float:
    """Return the seconds in an attempt's allowance file; 0 if it has none."""
    try:
        return float((folder / ALLOWANCE_FILE).read_text())
    except (OSError, ValueError):
        return 0.0


def raise_to(folder: Path, seconds: float) -> None:
    """Let an attempt work for so many seconds in all; it sees that within moments."""
    write_atomic(folder / ALLOWANCE_FILE, repr(seconds).encode())


@contextmanager
def within(
    folder: Path, seconds: float | None, begun: float, log: EventLog, request: Callable[[str], None], *, ends: bool
) -> Iterator[None]:
    """Call `request("budget")` shortly before an attempt's seconds are used up while the block runs.

    seconds: the allowance in its job; None: no limit. begun: the monotonic time at which it would have begun without
    a pause, that is, now less the seconds that it has used. ends: end this process when they are used up and the
    block still runs.
    """
    if seconds is None:
        yield
        return

    def look() -> bool:
        allowed = max(seconds, raised(folder))
        at_work = time.monotonic() - begun
        if at_work >= allowed - margin(allowed):
            request(BUDGET)
        # Early enough for a machine that is too busy to let this thread run at once.
        if ends and at_work >= allowed - margin(allowed) / 2:
            with suppress(OSError):  # A full disk.
                log.append("stopped", reason=BUDGET)
            os._exit(STOPPED)
        return True

    with meanwhile(look, _LOOK_SECONDS, "allowance"):
        yield
