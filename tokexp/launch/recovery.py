"""When an attempt that did not finish is worth another try: a budget by cause, and a look at whether it gets on.

A restart is counted against its cause; one that got further than all attempts before it starts the count anew, for
causes that come from outside (a lost node, a preemption, a time limit). So a long job may be restarted as often as it
takes, while one that dies at the same place every time is given up.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

Cause = Literal["code", "nan", "memory", "disk", "input", "lost", "timeout", "stopped", "cancel"]

RESTARTS: Final[dict[Cause, int]] = {
    "lost": 3, "stopped": 3, "timeout": 2, "memory": 1, "input": 1, "disk": 0, "code": 0, "nan": 0, "cancel": 0,
}  # fmt: skip
"""Restarts for each cause; for `lost`, `stopped` and `timeout` those in a row without a newer checkpoint."""

_FROM_OUTSIDE: Final = frozenset({"lost", "stopped", "timeout"})


@dataclass
class RetryBudget:
    """What one stage may still use up. `furthest` is the newest checkpoint (its step) of any attempt, or None."""

    furthest: int | None = None
    _used: dict[Cause, int] = field(default_factory=dict)

    def allows(self, cause: Cause, step: int | None) -> bool:
        """Count an attempt that ended for `cause`, its newest checkpoint being at `step`; True if another may start."""
        if step is not None and (self.furthest is None or step > self.furthest):
            self.furthest = step
            self._used = {past: count for past, count in self._used.items() if past not in _FROM_OUTSIDE}
        self._used[cause] = self._used.get(cause, 0) + 1
        return self._used[cause] <= RESTARTS[cause]

    def exhausted(self, cause: Cause) -> str:
        """Return why there is no further try, as the end of a sentence."""
        tried = self._used.get(cause, 0)
        if cause not in _FROM_OUTSIDE:
            return "" if tried <= 1 else f" (tried {tried} times)"
        if self.furthest is None:
            return f" ({tried} attempts in a row ended without a checkpoint)"
        return f" (no progress: {tried} attempts in a row got no further than step {self.furthest})"
