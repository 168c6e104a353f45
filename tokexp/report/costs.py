"""What stages cost: time at work and GPU hours, over all attempts; each divided among the trials that share it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tokexp.ledger.records import AttemptRecord, Ledger
from tokexp.ledger.sweeps import TrialRecord

_ENDED_BADLY = frozenset({"failed", "lost", "stopped"})


@dataclass(frozen=True)
class Cost:
    """Seconds at work (restarts and failed attempts included), GPU hours, and the attempts that it took."""

    seconds: float = 0.0
    gpu_hours: float = 0.0
    attempts: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.seconds + other.seconds, self.gpu_hours + other.gpu_hours, self.attempts + other.attempts
        )  # fmt: skip

    def shared_by(self, trials: int) -> "Cost":
        """Return what comes to each of some trials; attempts cannot be divided and count for all."""
        return Cost(self.seconds / trials, self.gpu_hours / trials, self.attempts)


@dataclass(frozen=True)
class StageCosts:
    """Stage key to what it cost, and to the newest attempt, for stages that were started."""

    costs: Mapping[str, Cost]
    newest: Mapping[str, AttemptRecord]

    def of(self, keys: Iterable[str]) -> Cost:
        """Return what some stages cost together, each counted once."""
        return sum((self.costs[key] for key in set(keys) if key in self.costs), Cost())

    def trouble(self, keys: Iterable[str]) -> AttemptRecord | None:
        """Return the newest attempt that failed, was lost or was stopped, if that is how a stage of these stands."""
        found = [self.newest[key] for key in keys if key in self.newest and self.newest[key].state in _ENDED_BADLY]
        return max(found, key=lambda attempt: (attempt.state == "failed", attempt.updated), default=None)


def stage_costs(ledger: Ledger, keys: Iterable[str]) -> StageCosts:
    """Return the costs of some stages from the ledger as it is; attempts that only met another one are not counted."""
    wanted = set(keys)
    costs: dict[str, Cost] = {}
    newest: dict[str, AttemptRecord] = {}
    for attempt in ledger.attempts():
        if attempt.key in wanted and attempt.cause != "claimed":
            own = Cost(attempt.used, attempt.used * attempt.gpus / 3600, 1)
            costs[attempt.key] = costs.get(attempt.key, Cost()) + own
            newest[attempt.key] = attempt
    return StageCosts(costs, newest)


def shares(trials: Iterable[TrialRecord], stages: StageCosts) -> dict[str, Cost]:
    """Return trial id to its share: a stage that several trials use is divided evenly among them."""
    found = list(trials)
    users = Counter(key for trial in found for key in set(trial.keys.values()))
    return {
        trial.id: sum(
            (stages.costs[key].shared_by(users[key]) for key in set(trial.keys.values()) if key in stages.costs), Cost()
        )
        for trial in found
    }
