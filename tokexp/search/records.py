"""What a search hands out: points that were asked for, and what became of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokexp.search.space import Space
from tokexp.search.trials import EndOrRunning, TrialEnd, state_of, violations_of
from tokexp.spec.sweep import SweepSpec

SAME_AS = "same_as"
"""Attribute of a trial: the number of an earlier one with equal values."""

REJECTED = "rejected"
"""Attribute of a trial that was not run: why."""


@dataclass(frozen=True)
class Asked:
    """A point to try. `case` is None where no static points stand beside the space; `values` are JSON-able.

    same_as: the number of an earlier trial with equal values, ended or running: nothing new to run.
    """

    number: int
    values: dict[str, Any]
    case: str | None = None
    same_as: int | None = None


@dataclass(frozen=True)
class Told:
    """How a trial ended: `values` of the metrics, in their order, if it completed; `params` are its point's values."""

    state: TrialEnd
    values: tuple[float, ...] | None
    params: dict[str, Any]


@dataclass(frozen=True)
class SearchRow:
    """All that a study knows of one trial, for reports.

    metrics: name to value, empty unless complete. feasible: whether it is complete and keeps all constraints.
    asked: Unix seconds. seconds: from asking to telling, None while it runs. reports: step to value, in the pruner's
    direction. known: Optuna's parameters. rejected: why it was not run.
    """

    number: int
    state: EndOrRunning
    case: str | None
    values: dict[str, Any]
    metrics: dict[str, float]
    feasible: bool
    same_as: int | None = None
    rejected: str = ""
    asked: float = 0.0
    seconds: float | None = None
    reports: dict[int, float] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def row_of(trial: Any, space: Space, sweep: SweepSpec) -> SearchRow:
    """Return what an Optuna trial says."""
    case, values = space.written(trial.params)
    state = state_of(trial)
    violations = violations_of(trial)
    keeps = not sweep.constraints if violations is None else all(violation <= 0 for violation in violations)
    results = trial.values if state == "complete" and trial.values is not None else ()
    attributes: Mapping[str, Any] = trial.user_attrs
    asked = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    return SearchRow(
        number=trial.number,
        state=state,
        case=case,
        values=values,
        metrics={metric.name: result for metric, result in zip(sweep.metrics, results, strict=False)},
        feasible=state == "complete" and keeps,
        same_as=attributes.get(SAME_AS),
        rejected=str(attributes.get(REJECTED, "")),
        asked=asked,
        seconds=trial.datetime_complete.timestamp() - asked if trial.datetime_complete else None,
        reports=dict(trial.intermediate_values),
        known=dict(trial.params),
        attributes=dict(attributes),
    )
