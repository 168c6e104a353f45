"""The record of a run: what was asked for, as it was written and as it was understood; and the way back to a plan."""

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tokexp.errors import InputError
from tokexp.ledger.provenance import collect_provenance
from tokexp.ledger.runs import RunNode, RunRecord, run_ref
from tokexp.plan.graph import Plan, StageNode, build_plan
from tokexp.spec.experiment import Experiment


def run_record(
    plan: Plan,
    experiment: Experiment | None = None,
    *,
    file: str = "",
    text: str = "",
    sources: Mapping[str, Any] | None = None,
) -> RunRecord:
    """Return the record of a run of `plan`; without the experiment it cannot be planned anew from the record."""
    # The data may change under the same spec, and with it the keys: that is another run, with results of its own.
    identity = blake2b("\n".join([plan.spec_hash, *sorted(plan.keys())]).encode(), digest_size=8).hexdigest()
    return RunRecord(
        ref=run_ref(plan.name, identity),
        name=plan.name,
        spec_hash=plan.spec_hash,
        spec_file=str(Path(file).absolute()) if file else "",
        spec_text=text,
        cwd=str(Path.cwd()),
        resolved={} if experiment is None else experiment.model_dump(mode="json", by_alias=True),
        sources=dict(sources or {}),
        provenance=collect_provenance(),
        nodes=tuple(_run_node(node) for node in plan.nodes),
        seeds={seed: dict(names) for seed, names in plan.seeds.items()},
    )


def _run_node(node: StageNode) -> RunNode:
    return RunNode(
        key=node.key,
        kind=node.kind,
        name=node.name,
        seed=node.seed,
        inputs=dict(node.inputs),
        label=node.label,
        payload=node.payload.model_dump(mode="json"),
    )


def plan_of(record: RunRecord) -> tuple[Experiment, Plan]:
    """Return the experiment of a record and its plan. Raises InputError if this version of tokexp cannot read it."""
    try:
        experiment = Experiment.model_validate_json(json.dumps(record.resolved))
    except ValidationError as error:
        raise InputError(
            f"the record of {record.ref} was written by another version of tokexp; run its spec instead "
            f"({record.spec_file or 'no file is known'})"
        ) from error
    return experiment, build_plan(experiment)
