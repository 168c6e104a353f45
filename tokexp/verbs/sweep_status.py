"""How sweeps stand, and ending them: what `status` and `cancel` do for a sweep."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from tokexp.launch.attempts import request_stop
from tokexp.launch.base import STOP_FILE
from tokexp.launch.queues import cancel_queued, queued_states
from tokexp.ledger.locks import if_free
from tokexp.ledger.records import AttemptRecord, Ledger
from tokexp.ledger.sweeps import (
    Sweep,
    TrialLog,
    TrialRecord,
    is_complete,
    list_sweeps,
    read_trials,
    sweep_folder,
    with_states,
)
from tokexp.ledger.workspace import Workspace
from tokexp.verbs.printing import console, print_json, say, shown_state

MOST_LINES = 30
"""Trials that are listed one by one; of larger sweeps, those that need a look."""

_ORDER = ("failed", "stopped", "running", "planned", "pruned", "done")


def sweep_rows(workspace: Workspace, ledger: Ledger) -> list[dict[str, Any]]:
    """Return every sweep with the number of trials in each state, newest first, JSON-ready."""
    rows = []
    for record in list_sweeps(workspace):
        sweep = read_trials(sweep_folder(workspace, record.ref))
        sweep = with_states(sweep, ledger.stage_states(sweep.nodes))
        counts = Counter(trial.state for trial in sweep.trials)
        rows.append(
            {
                "ref": record.ref, "name": record.name, "created": record.created,
                "trials": {shown_state(state): count for state, count in counts.items()},
                "complete": is_complete(workspace, sweep), "searched": record.searched,
            }
        )  # fmt: skip
    return rows


def sweep_status(workspace: Workspace, ref: str, json: bool) -> int:
    """Print how one sweep stands: trials by state, stages by name, and what failed. Returns 0.

    Where jobs wait in a cluster's queue, its scheduler is asked; without one, files alone decide.
    """
    ledger = Ledger(workspace)
    ledger.refresh()
    sweep = read_trials(sweep_folder(workspace, ref))
    stages: dict[str, str] = dict(ledger.stage_states(sweep.nodes))
    sweep = with_states(sweep, ledger.stage_states(sweep.nodes))
    stages.update(queued_states(workspace, {key: state for key, state in stages.items() if state != "done"}))
    if json:
        print_json(_as_json(workspace, sweep, stages, ledger))
        return 0
    counts: Counter[str] = Counter(trial.state for trial in sweep.trials)
    words = ", ".join(f"{counts[state]} {shown_state(state)}" for state in reversed(_ORDER) if counts[state])
    complete = "complete" if is_complete(workspace, sweep) else "not complete"
    console().print(Text(f"{ref}   {len(sweep.trials)} trials: {words or 'none has begun'}   {complete}"))
    console().print(_stage_table(sweep, stages))
    console().print(_trial_table(sweep))
    newest = {attempt.key: attempt for attempt in ledger.attempts() if attempt.state == "failed"}
    for key, attempt in newest.items():
        if stages.get(key) == "failed":
            say(f"{sweep.nodes[key].name} {key[:6]}: {attempt.message} (attempt {attempt.id})")
    for problem in (*ledger.problems, *ledger.trouble()):
        say(f"problem: {problem}")
    return 0


def cancel_sweep(workspace: Workspace, ref: str, json: bool) -> int:
    """Stop a sweep wherever it runs: nothing of it is started any more, and attempts save a checkpoint. Returns 0."""
    folder = sweep_folder(workspace, ref)
    (folder / STOP_FILE).write_text("cancel")
    sweep = read_trials(folder)
    states = Ledger(workspace).stage_states(sweep.nodes)
    left = [key for key, state in states.items() if state != "done"]
    stopped = [attempt for key in left if (attempt := request_stop(workspace, key)) is not None]
    queued = cancel_queued(workspace, left)
    if sweep.record.cluster is not None:
        from tokexp.launch.slurm_driver import cancel_driver

        cancel_driver(workspace, ref)
    with if_free(folder / "controller.lock") as held:
        if held:  # Nobody else will write down that its trials were stopped.
            _note_stopped(with_states(sweep, states), TrialLog(folder))
    if json:
        print_json({"ref": ref, "stopped": stopped, "cancelled": queued})
        return 0
    parts = [f"asked {len(stopped)} running attempts to save and stop"] if stopped else []
    parts += [f"took {len(queued)} jobs out of the queue"] if queued else []
    say(" and ".join(parts) or "nothing of it is running; it will not go on before `tokexp sweep` is asked to again")
    return 0


def _note_stopped(sweep: Sweep, log: TrialLog) -> None:
    for trial in sweep.trials:
        if trial.state in ("planned", "running"):
            log.ended(trial.id, "stopped", "cancelled")
    log.close()


def _stage_table(sweep: Sweep, stages: Mapping[str, str]) -> Table:
    names: dict[str, Counter[str]] = {}
    for node in sweep.nodes.values():
        names.setdefault(node.name, Counter())[shown_state(stages[node.key])] += 1
    table = Table.grid(padding=(0, 2))
    for name, counts in names.items():
        words = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        table.add_row("", name, str(sum(counts.values())), words)
    return table


def _trial_table(sweep: Sweep) -> Table:
    trials = sorted(sweep.trials, key=lambda trial: _ORDER.index(trial.state))
    listed = trials if len(trials) <= MOST_LINES else [t for t in trials if t.state not in ("done", "planned")]
    table = Table.grid(padding=(0, 2))
    for trial in listed[:MOST_LINES]:
        table.add_row(
            "", Text(_name(trial)), f"seed {trial.seed}", trial.id, shown_state(trial.state), Text(trial.note)
        )
    return table


def _name(trial: TrialRecord) -> str:
    if trial.case:
        return trial.case
    values = ", ".join(f"{path.rpartition('.')[2]}={value}" for path, value in trial.values.items())
    return f"trial {trial.number}: {values}" if values else f"trial {trial.number}"


def _as_json(workspace: Workspace, sweep: Sweep, stages: Mapping[str, str], ledger: Ledger) -> dict[str, Any]:
    trials = [
        {
            "id": trial.id, "number": trial.number, "case": trial.case, "values": trial.values, "seed": trial.seed,
            "state": shown_state(trial.state), "note": trial.note, "stages": dict(trial.keys),
        }
        for trial in sweep.trials
    ]  # fmt: skip
    attempts: dict[str, AttemptRecord] = {attempt.key: attempt for attempt in ledger.attempts()}
    rows = [
        {
            "key": key, "name": node.name, "kind": node.kind, "seed": node.seed, "state": shown_state(stages[key]),
            "attempt": attempts[key].id if key in attempts else None,
        }
        for key, node in sweep.nodes.items()
    ]  # fmt: skip
    return {
        "ref": sweep.ref, "name": sweep.record.name, "complete": is_complete(workspace, sweep), "trials": trials,
        "stages": rows, "problems": [*ledger.problems, *ledger.trouble()],
    }  # fmt: skip
