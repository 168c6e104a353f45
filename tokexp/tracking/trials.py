"""From a sweep's files to what a tracker shows of it: how trials and the sweep stand, their names, tags, parameters.

A trial is shown from the first attempt at a stage that no other point shares, or when it is settled.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from tokexp.ledger.locks import if_free
from tokexp.ledger.records import Ledger
from tokexp.ledger.sweeps import Sweep, SweepRecord, TrialRecord, is_complete, sweep_folder, with_states
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import Status

SETTLED: Final = frozenset({"done", "pruned", "failed", "stopped"})
"""States that a trial keeps until somebody asks for the sweep again."""

STATUSES: Final[Mapping[str, Status]] = {
    "done": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "stopped": "KILLED", "running": "RUNNING",
}  # fmt: skip
"""How MLflow's table marks a trial. A pruned one has no final metrics: the other mark keeps it apart from a whole one,
and the tag `tokexp.state` says why."""

CANCEL_FILE: Final = "cancel"
"""In a sweep's folder once somebody has cancelled it."""

VALUE_LIMIT = 250
"""Longest text of a swept value; MLflow's table and charts show no more of it anyway."""


def derived(ledger: Ledger, sweep: Sweep, trials: Iterable[TrialRecord], *, live: bool) -> list[TrialRecord]:
    """Return trials with the states that follow from their stages, where nobody has noted one.

    What was lost will be tried again, and while a controller lives (`live`) so may what failed: both count as planned.
    """
    chosen = tuple(trials)
    states = ledger.stage_states(key for trial in chosen for key in trial.keys.values())
    found = []
    for noted, trial in zip(chosen, with_states(replace(sweep, trials=chosen), states).trials, strict=True):
        open_again = trial.state == "stopped" or (trial.state == "failed" and live)
        found.append(replace(trial, state="planned") if noted.state not in SETTLED and open_again else trial)
    return found


def sweep_status(workspace: Workspace, sweep: Sweep, states: Counter[str], *, live: bool) -> Status:
    """Return how a sweep stands. states: how many trials are in each state. live: a controller works on it."""
    open_trials, record = states["planned"] + states["running"], sweep.record
    all_known = record.total is not None and sum(states.values()) >= record.total
    complete = open_trials == 0 and (all_known or is_complete(workspace, sweep))
    if live or states["running"] or (not complete and _goes_on(workspace, record)):
        return "RUNNING"
    if states["failed"]:
        return "FAILED"
    return "FINISHED" if complete and not states["stopped"] else "KILLED"


def _goes_on(workspace: Workspace, record: SweepRecord) -> bool:
    """Say whether somebody will go on with a sweep: a cluster's scheduler, or a controller that holds its lock."""
    folder = sweep_folder(workspace, record.ref)
    if (folder / CANCEL_FILE).exists():
        return False
    if record.cluster is not None:
        return True
    lock = folder / "controller.lock"
    if not lock.exists():
        return False
    with if_free(lock) as free:
        return not free


def own_keys(sweep: Sweep) -> dict[str, list[str]]:
    """Return trial id to the keys of its stages that no other point needs."""
    points: dict[str, set[str]] = {}
    for trial in sweep.trials:
        for key in trial.keys.values():
            points.setdefault(key, set()).add(trial.point)
    return {trial.id: [key for key in trial.keys.values() if len(points[key]) == 1] for trial in sweep.trials}


def point_name(record: SweepRecord, trial: TrialRecord) -> str:
    """Return what a point is called in tables and charts: its case; a searched one has a number as well."""
    return " ".join(filter(None, [f"trial {trial.number}", trial.case])) if record.searched else trial.case


def trial_name(record: SweepRecord, trial: TrialRecord) -> str:
    """Return the name of a trial's run."""
    return f"{point_name(record, trial) or trial.id}, seed {trial.seed}"


def sweep_tags(record: SweepRecord) -> dict[str, str]:
    """Return the tags that a sweep and all its trials carry, so that no search needs the parent."""
    git = record.provenance.get("git") or {}
    commit = str(git.get("commit", "")) + ("-dirty" if git.get("dirty") else "")
    tags = {"tokexp.study": record.ref, "tokexp.sweep": record.name}
    return {**tags, **({"tokexp.git": commit} if commit else {})}


def trial_tags(record: SweepRecord, trial: TrialRecord) -> dict[str, str]:
    """Return the tags of a trial's run: those of its sweep, its own, and the key of each stage."""
    own = {
        "tokexp.case": point_name(record, trial), "tokexp.seed": str(trial.seed), "tokexp.trial": trial.id,
        "tokexp.number": str(trial.number), "tokexp.spec_hash": trial.spec_hash or trial.point,
    }  # fmt: skip
    return {**sweep_tags(record), **own, **{f"tokexp.key.{name}": key for name, key in trial.keys.items()}}


def trial_params(record: SweepRecord, trial: TrialRecord) -> dict[str, str]:
    """Return the parameters of a trial's run: case, seed, and the values of what the sweep varies.

    A value that this point leaves alone is the experiment's own, where that is written out: parallel coordinates leave
    runs out that lack a value.
    """
    found = {"case": point_name(record, trial), "seed": str(trial.seed)}
    for path in record.parameters or trial.values:
        value = trial.values[path] if path in trial.values else experiment_value(record, path)
        if value is not None:
            found[path] = value_text(value)
    return found


def value_text(value: Any) -> str:
    """Return a value as a cell of a table: plain values as they are, others as JSON cut to VALUE_LIMIT characters."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= VALUE_LIMIT else f"{text[: VALUE_LIMIT - 3]}..."


def experiment_value(record: SweepRecord, path: str) -> Any:
    """Return the value that a sweep's experiment itself gives a dotted path; None where it is not written out."""
    tree: Any = record.frozen.get("experiment")
    for name in path.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            return None
        tree = tree[name]
    return tree
