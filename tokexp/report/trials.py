"""What a sweep found out, JSON-ready: a row for each trial, a row for each case, the front, failures, and the cost.

Numbers of a case are over its finished trials. A trial that failed or was pruned keeps what its finished stages found
in its own row, and enters no mean.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from tokexp.ledger.outputs import is_done
from tokexp.ledger.records import Ledger
from tokexp.ledger.sweeps import Sweep, TrialRecord
from tokexp.ledger.workspace import Workspace
from tokexp.report.cases import CaseRow, Tried, case_rows
from tokexp.report.costs import Cost, StageCosts, shares, stage_costs
from tokexp.tracking.measures import named_metrics


@dataclass(frozen=True)
class TrialRow:
    """A trial with what it found and cost.

    metrics: full name (finetune/top1) to value, of its finished stages. seconds, gpu_hours: its share; stages that
    several trials use are divided among them. whole: the same without dividing. problem: why it did not end well.
    attempt: the id of the attempt that says more about it.
    """

    trial: TrialRecord
    metrics: dict[str, float]
    seconds: float
    gpu_hours: float
    attempts: int
    whole: Cost
    problem: str = ""
    attempt: str | None = None


@dataclass(frozen=True)
class StageRow:
    """All stages of one name together: how many there are, how many are finished, and what they cost."""

    name: str
    stages: int
    done: int
    trials: int
    cost: Cost


@dataclass(frozen=True)
class SweepResult:
    """A sweep's result as far as it has come.

    states: how many trials are in each. cost: of all stages, each counted once. undivided: what the trials would have
    cost if each had computed all of its stages by itself.
    """

    ref: str
    name: str
    spec_hash: str
    created: float
    searched: bool
    metrics: tuple[dict[str, str], ...]
    seeds: tuple[int, ...]
    baseline: str | None
    parameters: tuple[str, ...]
    states: dict[str, int]
    trials: tuple[TrialRow, ...]
    cases: tuple[CaseRow, ...]
    stages: tuple[StageRow, ...]
    cost: Cost
    undivided: Cost
    remarks: tuple[str, ...] = ()

    @property
    def front(self) -> tuple[CaseRow, ...]:
        """The cases that no other is better than in every metric; with one metric, the best."""
        return tuple(case for case in self.cases if case.on_front)

    @property
    def failures(self) -> tuple[TrialRow, ...]:
        """The trials that failed or were stopped; those that were pruned ended as they should."""
        return tuple(row for row in self.trials if row.trial.state in ("failed", "stopped"))

    def case(self, point: str) -> CaseRow:
        """Return the case of a point. Raises KeyError if there is none."""
        return {case.point: case for case in self.cases}[point]

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain mappings and lists."""
        return {
            **asdict(self),
            "front": [case.point for case in self.front],
            "failures": [row.trial.id for row in self.failures],
        }


def sweep_result(workspace: Workspace, sweep: Sweep) -> SweepResult:
    """Return the result of a sweep from the ledger and the finished outputs; works at any time, also before any."""
    ledger = Ledger(workspace)
    ledger.refresh()
    stages = stage_costs(ledger, sweep.nodes)
    rows = _trial_rows(workspace, sweep, stages)
    cases, remarks = case_rows(
        sweep.record, [Tried(row.trial, row.metrics, row.seconds, row.gpu_hours) for row in rows]
    )
    record = sweep.record
    return SweepResult(
        ref=record.ref, name=record.name, spec_hash=record.spec_hash, created=record.created, searched=record.searched,
        metrics=record.metrics, seeds=record.seeds, baseline=record.baseline, parameters=record.parameters,
        states=dict(Counter(trial.state for trial in sweep.trials)), trials=rows, cases=cases,
        stages=_stage_rows(workspace, sweep, stages), cost=stages.of(sweep.nodes),
        undivided=sum((row.whole for row in rows), Cost()), remarks=remarks,
    )  # fmt: skip


def _trial_rows(workspace: Workspace, sweep: Sweep, stages: StageCosts) -> tuple[TrialRow, ...]:
    own = shares(sweep.trials, stages)
    rows = []
    for trial in sweep.trials:
        share, trouble = own[trial.id], None
        if trial.state in ("failed", "stopped"):
            trouble = stages.trouble(trial.keys.values())
        names = {key: name for name, key in trial.keys.items()}
        said = "" if trouble is None else f"{names[trouble.key]}: {trouble.message or trouble.cause or trouble.state}"
        row = TrialRow(
            trial, named_metrics(workspace, sweep.nodes, trial.keys), share.seconds, share.gpu_hours, share.attempts,
            whole=stages.of(trial.keys.values()), problem=trial.note or said,
            attempt=None if trouble is None else trouble.id,
        )  # fmt: skip
        rows.append(row)
    return tuple(rows)


def _stage_rows(workspace: Workspace, sweep: Sweep, stages: StageCosts) -> tuple[StageRow, ...]:
    """Return a row for each stage name, in the order in which stages need one another."""
    keys: dict[str, list[str]] = {}
    for key, node in sweep.nodes.items():
        keys.setdefault(node.name, []).append(key)
    users = Counter(name for trial in sweep.trials for name in trial.keys)
    return tuple(
        StageRow(name, len(own), sum(_is_done(workspace, sweep, key) for key in own), users[name], stages.of(own))
        for name, own in keys.items()
    )


def _is_done(workspace: Workspace, sweep: Sweep, key: str) -> bool:
    return is_done(workspace.output(sweep.nodes[key].kind, key))
