"""The verbs that look at runs while they go on and afterwards: status, logs, cancel."""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tokexp.errors import InputError
from tokexp.launch.attempts import Tail, attempts_of, request_stop
from tokexp.launch.base import LOG_FILE
from tokexp.launch.queues import cancel_queued, queued_states
from tokexp.launch.run import request_run_stop
from tokexp.ledger.events import Event
from tokexp.ledger.records import AttemptRecord, Ledger
from tokexp.ledger.runs import RunNode, RunRecord, list_runs, load_run, read_runs
from tokexp.ledger.sweeps import find_sweep, is_sweep_ref, load_sweep
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.report.quantities import span
from tokexp.verbs.printing import console, print_json, say, shown_state
from tokexp.verbs.sweep_status import cancel_sweep, sweep_rows, sweep_status

_FOLLOW_SECONDS = 0.3
_BETWEEN_SECONDS = 20.0
"""Silence after which a run with stages to do is taken for dead; a worker needs seconds before its first word."""
_STOPPED_SECONDS = 3.0
"""The same where a stage failed or was stopped, which a controller tries again at once if at all."""
_EVENT_WORDS = {
    "resumed": "resumed at step",
    "checkpoint": "checkpoint at step",
    "stopped": "stopped:",
    "failed": "failed:",
}
_SETTLED = frozenset({"done", "failed", "damaged"})


def status(ref: str | None, workspace: str | Path | None, json: bool) -> int:
    """Print all runs with their counts, or the stages of one run with attempts, progress and problems."""
    found = resolve_workspace(workspace)
    ledger = Ledger(found)
    if ref is None:
        records, unreadable = read_runs(found)
        ledger.refresh()
        return _all_runs(records, ledger, unreadable, json)
    if is_sweep_ref(found, ref):
        return sweep_status(found, find_sweep(found, ref), json)
    record = load_run(found, ref)
    ledger.refresh()
    rows = _stage_rows(record, ledger)
    problems = [*ledger.problems, *ledger.trouble()]
    if json:
        print_json({"ref": record.ref, "name": record.name, "stages": rows, "problems": problems})
        return 0
    done = sum(row["state"] == "done" for row in rows)
    console().print(Text(f"{record.ref}   {done} of {len(rows)} stages done"))
    table = Table.grid(padding=(0, 2))
    for row in rows:
        seed = "" if row["seed"] is None else f"seed {row['seed']}"
        tries = f"{row['attempts']} attempts" if row["attempts"] > 1 else ""
        table.add_row("", Text(row["name"]), row["key"][:6], seed, row["state"], tries, Text(row["note"]))
    console().print(table)
    for problem in problems:
        say(f"problem: {problem}")
    return 0


def logs(ref: str, workspace: str | Path | None, follow: bool, json: bool) -> int:
    """Print what the newest attempt at each stage of a run (or at one stage, by its key) said, in order of time."""
    found = resolve_workspace(workspace)
    nodes = _nodes_of(found, ref)
    if json:
        print_json({"ref": _full_ref(found, ref), "attempts": [_attempt_json(found, node) for node in nodes]})
        return 0
    readers: dict[Path, _LogReader] = {}
    active = -math.inf
    while True:
        patience = _patience(found, nodes) if follow else 0.0  # Looked at first: what came before the end is printed.
        lines: list[tuple[float, str]] = []
        for node in nodes:
            for folder in attempts_of(found, node.key)[-1:]:
                reader = readers.setdefault(folder, _LogReader(folder, node.name))
                lines += reader.new_lines()
        for _, line in sorted(lines, key=lambda item: item[0]):
            sys.stdout.write(line + "\n")
        sys.stdout.flush()
        now = time.monotonic()
        active = now if lines or patience is None else active
        if patience is not None and now - active >= patience:
            if not readers:
                say(f"no stage of {_full_ref(found, ref)} has been started yet")
            return 0
        time.sleep(_FOLLOW_SECONDS)


def cancel(ref: str, workspace: str | Path | None, json: bool) -> int:
    """Stop a run, or one stage by its key: attempts save a checkpoint and end, and are not started again."""
    found = resolve_workspace(workspace)
    if is_sweep_ref(found, ref):
        return cancel_sweep(found, find_sweep(found, ref), json)
    nodes = _nodes_of(found, ref)
    queued = cancel_queued(found, [node.key for node in nodes])
    stopped = [attempt for node in nodes if (attempt := request_stop(found, node.key)) is not None]
    run = _run_of(found, ref)
    if run is not None:
        request_run_stop(found, run.ref)
    if json:
        print_json({"ref": _full_ref(found, ref), "stopped": stopped, "cancelled": queued})
    elif queued:
        say(f"took {len(queued)} jobs out of the queue, and asked {len(stopped)} running attempts to save and stop")
    elif stopped:
        say(f"asked {len(stopped)} running attempts to save and stop: {', '.join(stopped)}")
    else:
        say("nothing of it is running")
    return 0


def _full_ref(workspace: Workspace, ref: str) -> str:
    run = _run_of(workspace, ref)
    return ref if run is None else run.ref


def _run_of(workspace: Workspace, ref: str) -> RunRecord | None:
    try:
        return load_run(workspace, ref)
    except InputError:
        return None


def _nodes_of(workspace: Workspace, ref: str) -> list[RunNode]:
    """Return the stages of a run or a sweep, or the one stage whose key starts with `ref`."""
    if is_sweep_ref(workspace, ref):
        return list(load_sweep(workspace, ref).nodes.values())
    run = _run_of(workspace, ref)
    if run is not None:
        return list(run.nodes)
    try:
        key = workspace.find_key(ref)
    except InputError:
        load_run(workspace, ref)  # Raises with the nearest names of runs, which is the better message.
        raise
    known = [node for record in list_runs(workspace) for node in record.nodes if node.key == key]
    return known[:1] or [RunNode(key=key, kind="", name=key[:10])]


def _all_runs(records: list[RunRecord], ledger: Ledger, unreadable: list[str], json: bool) -> int:
    states = ledger.stage_states(node.key for record in records for node in record.nodes)
    rows = []
    for record in records:
        counts: dict[str, int] = {}
        for node in record.nodes:
            state = shown_state(states[node.key])
            counts[state] = counts.get(state, 0) + 1
        rows.append({"ref": record.ref, "name": record.name, "created": record.created, "states": counts})
    problems = [*unreadable, *ledger.problems]
    sweeps = sweep_rows(ledger.workspace, ledger)
    if json:
        print_json({"runs": rows, "sweeps": sweeps, "problems": problems})
        return 0
    table = Table.grid(padding=(0, 3))
    for row, record in zip(rows, records, strict=True):
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created))
        words = ", ".join(f"{count} {state}" for state, count in _counts(row))
        table.add_row(record.ref, when, words)
    for sweep in sweeps:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(sweep["created"]))
        words = ", ".join(f"{count} {state}" for state, count in sweep["trials"].items())
        table.add_row(sweep["ref"], when, f"sweep: {words}" + (", complete" if sweep["complete"] else ""))
    if rows or sweeps or not unreadable:
        console().print(table if rows or sweeps else "no runs yet; `tokexp run SPEC` starts one")
    for problem in problems:
        say(f"problem: {problem}")
    return 0


def _counts(row: dict[str, Any]) -> list[tuple[str, int]]:
    return sorted(row["states"].items())


def _stage_rows(record: RunRecord, ledger: Ledger) -> list[dict[str, Any]]:
    states: dict[str, str] = dict(ledger.stage_states(record.keys()))
    states.update(queued_states(ledger.workspace, {key: state for key, state in states.items() if state != "done"}))
    rows = []
    for node in record.nodes:
        attempts = ledger.attempts(node.key)
        state = shown_state(states[node.key])
        newest = attempts[-1] if attempts else None
        rows.append(
            {
                "key": node.key,
                "kind": node.kind,
                "name": node.name,
                "label": node.label,
                "seed": node.seed,
                "state": state,
                "attempts": len(attempts),
                "attempt": newest.id if newest else None,
                "progress": _progress(newest),
                "note": _note(state, newest),
            }
        )
    return rows


def _progress(attempt: AttemptRecord | None) -> dict[str, Any] | None:
    if attempt is None or attempt.done is None:
        return None
    return {"done": attempt.done, "total": attempt.total, "unit": attempt.unit, "rate": attempt.rate}


def _note(state: str, attempt: AttemptRecord | None) -> str:
    if attempt is None:
        return ""
    if state == "done":
        skipped = attempt.facts.get("skipped_images")
        left_out = f"   {skipped:,} images left out, which cannot be read" if skipped else ""
        return (span(attempt.seconds) if attempt.seconds is not None else "") + left_out
    if state == "running" and attempt.done is not None and attempt.total:
        loss = f"   loss {attempt.metrics['loss']:.4g}" if "loss" in attempt.metrics else ""
        return f"{100 * attempt.done / attempt.total:.0f} % of {attempt.total:,.0f} {attempt.unit}{loss}"
    return attempt.message or attempt.cause or ""


def _patience(workspace: Workspace, nodes: list[RunNode]) -> float | None:
    """Return for how many seconds of silence the end of a run is waited for; None while there is more to come."""
    states = set(Ledger(workspace).stage_states(node.key for node in nodes).values())
    if "running" in states or states == {"planned"}:
        return None
    if states <= _SETTLED:
        return 0.0
    return _STOPPED_SECONDS if states & {"failed", "stopped"} else _BETWEEN_SECONDS


def _attempt_json(workspace: Workspace, node: RunNode) -> dict[str, Any]:
    folders = attempts_of(workspace, node.key)
    if not folders:
        return {"key": node.key, "name": node.name, "attempt": None, "log": "", "events": []}
    try:
        text = (folders[-1] / LOG_FILE).read_text(errors="replace")
    except OSError:
        text = ""
    events = Tail(folders[-1]).read()
    return {"key": node.key, "name": node.name, "attempt": folders[-1].name, "log": text, "events": events}


class _LogReader:
    """Reads what is new in an attempt's events and log, as lines that begin with the stage's name."""

    def __init__(self, folder: Path, name: str) -> None:
        self._tail, self._name, self._offset = Tail(folder), name, 0
        self._file = folder / LOG_FILE

    def new_lines(self) -> Iterator[tuple[float, str]]:
        """Yield (time, line); lines of the log carry the time of the log's last change."""
        for event in self._tail.read():
            clock = time.strftime("%H:%M:%S", time.localtime(event["t"]))
            yield float(event["t"]), f"{clock} {self._name}: {_event_text(event)}"
        try:
            changed = self._file.stat().st_mtime
            with self._file.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            yield changed, f"         {self._name}| {line}"


def _event_text(event: Event) -> str:
    kind = event["e"]
    if kind == "metrics":
        return f"step {event['step']}: " + ", ".join(f"{k} {v:.4g}" for k, v in event["values"].items())
    if kind == "progress":
        return f"{event['done']} of {event['total']} {event['unit']}"
    if kind == "started":
        return f"started on {event['host']} (process {event['pid']}): {event['label']}"
    if kind == "done":
        return f"done in {span(event['seconds'])}"
    known = {"resumed": "step", "checkpoint": "step", "stopped": "reason", "failed": "message"}
    return f"{_EVENT_WORDS.get(kind, kind)} {event.get(known.get(kind, ''), '')}".rstrip()
