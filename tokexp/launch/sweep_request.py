"""The record of a sweep: what was asked for, under a name that a larger budget or another cluster does not change."""

from pathlib import Path
from typing import Any

from tokexp.data.listing import fingerprint
from tokexp.ledger.provenance import collect_provenance
from tokexp.ledger.runs import RunNode, run_ref
from tokexp.ledger.sweeps import SweepRecord, TrialRecord
from tokexp.plan.graph import StageNode
from tokexp.plan.keys import digest
from tokexp.plan.sweep import SweepPlan, Trial
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.experiment import Experiment
from tokexp.spec.sweep_reading import ReadSweep

_NOT_IDENTITY = frozenset({"budget", "baseline", "published", "constraints", "track", "resources"})
"""Blocks of a sweep and its experiment that may change while it stays the same sweep."""


def sweep_record(
    read: ReadSweep, base: Experiment, cluster: ClusterSpec | None = None, plan: SweepPlan | None = None
) -> SweepRecord:
    """Return the record of a sweep; `base` is one of its experiments, whose data all of them read.

    plan: of its static points, where there is no search.
    """
    sweep, frozen = read.sweep, read.freeze()
    asked = {name: value for name, value in sweep.relevant().items() if name not in _NOT_IDENTITY}
    experiment = {name: value for name, value in frozen["experiment"].items() if name not in _NOT_IDENTITY}
    # The data may change under the same spec: that is another sweep, with results of its own.
    identity = digest([asked, experiment, fingerprint(base.data, strict=True)])
    return SweepRecord(
        ref=run_ref(sweep.name, identity),
        name=sweep.name,
        spec_hash=identity,
        spec_file=str(Path(read.file).absolute()),
        spec_text=read.text,
        cwd=str(Path.cwd()),
        frozen=frozen,
        searched=sweep.searched,
        total=None if plan is None else min(len(plan.trials), sweep.budget.trials or len(plan.trials)),
        metrics=tuple({"name": metric.name, "direction": metric.direction} for metric in sweep.metrics),
        seeds=tuple(sweep.seeds),
        baseline=sweep.baseline,
        published=None if sweep.published is None else sweep.published.model_dump(mode="json"),
        parameters=_parameters(read),
        provenance=collect_provenance(),
        cluster=None if cluster is None else cluster.model_dump(mode="json", by_alias=True),
        track=base.track.model_dump(mode="json"),
    )


def trial_record(trial: Trial, number: int) -> TrialRecord:
    """Return what is kept of a trial; `number` is its point's."""
    point = trial.point
    return TrialRecord(
        id=trial.id, number=number, case=point.case, values=dict(point.values), seed=trial.seed, point=point.id,
        keys=dict(trial.keys), spec_hash=point.id, also=list(point.also),
    )  # fmt: skip


def run_node(node: StageNode) -> RunNode:
    """Return what is kept of a stage."""
    return RunNode(
        key=node.key, kind=node.kind, name=node.name, seed=node.seed, inputs=dict(node.inputs), label=node.label,
        payload=node.payload.model_dump(mode="json"),
    )  # fmt: skip


def _parameters(read: ReadSweep) -> tuple[str, ...]:
    sweep = read.sweep
    named: list[Any] = [*(path for values in sweep.cases.values() for path in values), *sweep.grid, *sweep.zip]
    return tuple(dict.fromkeys([*named, *sweep.space]))
