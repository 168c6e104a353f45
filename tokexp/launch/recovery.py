"""When an attempt that did not finish is worth another try: a budget by cause, and a look at whether it gets on.

A restart is counted against its cause; one that got further than all attempts before it starts the count anew, for
causes that come from outside (a lost node, a preemption, a time limit). So a long job may be restarted as often as it
takes, while one that dies at the same place every time is given up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from tokexp.spec.resources import Retries

Cause = Literal[
    "code", "nan", "memory", "disk", "input", "lost", "timeout", "preempted", "stopped", "cancel", "pruned",
    "dependency", "budget",
]  # fmt: skip
"""lost: its process or machine ended without a word. stopped: a signal asked it to. dependency: it never began,
because what it needs did not end well. budget: its share of a sweep's GPU hours was used."""

RESTARTS: Final[Mapping[Cause, int]] = {
    "lost": 3, "stopped": 3, "timeout": 2, "preempted": 20, "memory": 1, "input": 1, "dependency": 1000,
    "budget": 10**6, "disk": 0, "code": 0, "nan": 0, "cancel": 0, "pruned": 0,
}  # fmt: skip
"""Restarts for each cause; for those from outside, so many in a row without a newer checkpoint."""

_FROM_OUTSIDE: Final = frozenset({"lost", "stopped", "timeout", "preempted"})


@dataclass
class RetryBudget:
    """What one stage may still use up. `furthest` is the newest checkpoint (its step) of any attempt, or None.

    `own` replaces the limits of some causes.
    """

    furthest: int | None = None
    own: Mapping[str, int] = field(default_factory=dict)
    _used: dict[Cause, int] = field(default_factory=dict)

    @classmethod
    def of(cls, retries: Retries) -> "RetryBudget":
        """Return a fresh budget with the limits of a spec's resources; an unlimited one is only bounded in a row."""
        given = {name: value for name, value in retries.model_dump().items() if value is not None}
        return cls(own=given)

    def allows(self, cause: Cause, step: int | None) -> bool:
        """Count an attempt that ended for `cause`, its newest checkpoint being at `step`; True if another may start."""
        if step is not None and (self.furthest is None or step > self.furthest):
            self.furthest = step
            self._used = {past: count for past, count in self._used.items() if past not in _FROM_OUTSIDE}
        self._used[cause] = self._used.get(cause, 0) + 1
        return self._used[cause] <= self.own.get(cause, RESTARTS[cause])

    def count(self, restarts: Iterable[tuple[Cause, int | None]]) -> None:
        """Count ends after which an attempt was started again without being asked about, each with its newest step."""
        for cause, step in restarts:
            self.allows(cause, step)

    def exhausted(self, cause: Cause) -> str:
        """Return why there is no further try, as the end of a sentence."""
        tried = self._used.get(cause, 0)
        if cause not in _FROM_OUTSIDE:
            return "" if tried <= 1 else f" (tried {tried} times)"
        if self.furthest is None:
            return f" ({tried} attempts in a row ended without a checkpoint)"
        return f" (no progress: {tried} attempts in a row got no further than step {self.furthest})"
