"""What a controller tells while it works; `tokexp.report.live` shows it in a terminal."""

from typing import Literal, Protocol

from tokexp.ledger.events import Event
from tokexp.ledger.sweeps import TrialRecord, TrialState
from tokexp.plan.graph import Plan, StageNode

NodeState = Literal["to do", "queued", "running", "elsewhere", "done", "failed", "blocked", "stopped"]
"""elsewhere: another controller's attempt is at it. blocked: something that it needs failed."""


class Display(Protocol):
    """Receives states, events and remarks. No call may raise."""

    def begin(self, plan: Plan) -> None:
        """A plan is about to be carried out."""

    def state(self, node: StageNode, state: NodeState, note: str = "") -> None:
        """A stage is in a new state."""

    def event(self, node: StageNode, event: Event) -> None:
        """An attempt at a stage wrote an event."""

    def say(self, message: str) -> None:
        """Something happened that a person should know."""

    def close(self) -> None:
        """Nothing more will come."""


class SweepDisplay(Display, Protocol):
    """A display that also follows trials."""

    def begin_sweep(self, name: str, total: int | None) -> None:
        """A sweep of so many trials is about to be carried out; None: it is not known how many."""

    def trial(self, trial: TrialRecord, state: TrialState, note: str = "") -> None:
        """A trial is in a new state."""


class Quiet:
    """A display that shows nothing."""

    def begin(self, plan: Plan) -> None:
        """Show nothing."""

    def state(self, node: StageNode, state: NodeState, note: str = "") -> None:
        """Show nothing."""

    def event(self, node: StageNode, event: Event) -> None:
        """Show nothing."""

    def say(self, message: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""

    def begin_sweep(self, name: str, total: int | None) -> None:
        """Show nothing."""

    def trial(self, trial: TrialRecord, state: TrialState, note: str = "") -> None:
        """Show nothing."""
