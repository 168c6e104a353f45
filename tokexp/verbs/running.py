"""The verbs that plan and run experiments; those that follow and compare them are beside it."""

from collections.abc import Sequence
from contextlib import chdir
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tokexp.data.listing import image_counts
from tokexp.errors import DamagedError, DataError
from tokexp.launch.base import Launcher
from tokexp.launch.display import Display
from tokexp.launch.request import plan_of, run_record
from tokexp.launch.run import RunOutcome, run_plan
from tokexp.ledger.outputs import read_result
from tokexp.ledger.records import Ledger
from tokexp.ledger.runs import RunRecord, load_run, save_run
from tokexp.ledger.sweeps import find_sweep, is_sweep_ref
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.plan.estimate import Estimate, estimate_plan
from tokexp.plan.graph import Plan, StageNode, build_plan
from tokexp.plan.located import plan_of_file
from tokexp.registry import implementation
from tokexp.report.live import live_display
from tokexp.report.quantities import size, span
from tokexp.report.results import render, result
from tokexp.spec.experiment import Experiment
from tokexp.spec.reading import read_experiment
from tokexp.spec.sweep_reading import is_sweep
from tokexp.verbs.detached import start_detached
from tokexp.verbs.explaining import why
from tokexp.verbs.following import cancel, logs, status
from tokexp.verbs.printing import console, print_json, say, shown_state
from tokexp.verbs.specs import refuse_profile, refuse_sweep
from tokexp.verbs.sweep_plans import plan_sweep

__all__ = ["cancel", "logs", "plan", "retry", "run", "status", "why"]


def plan(file: str | Path, overrides: Sequence[str], workspace: str | Path | None, json: bool) -> int:
    """Print the stages that an experiment or a sweep needs: what is done, what the rest will take. Writes nothing."""
    if is_sweep(file):
        return plan_sweep(file, overrides, workspace, json)
    refuse_profile(file)
    found = resolve_workspace(workspace)
    experiment = read_experiment(file, overrides).experiment
    try:
        planned = build_plan(experiment)
    except DataError as error:
        say(f"{error}; this plan goes on without the data, whose stages get other keys once it is there")
        planned = build_plan(experiment, strict=False)
    ledger = Ledger(found)
    states = {key: shown_state(state) for key, state in ledger.stage_states(planned.keys()).items()}
    estimates = estimate_plan(planned, image_counts(experiment.data, strict=False), ledger.durations)
    open_keys = [node.key for node in planned.nodes if states[node.key] != "done"]
    seconds, total = sum(estimates[key].seconds for key in open_keys), sum(estimates[key].bytes for key in open_keys)
    if json:
        stages = [_stage_json(node, states[node.key], estimates[node.key]) for node in planned.nodes]
        head = {"name": planned.name, "spec_hash": planned.spec_hash, "stages": stages}
        print_json({**head, "estimate_s": round(seconds, 1), "bytes": total})
        return 0
    done = len(planned.nodes) - len(open_keys)
    counted = f"{len(planned.nodes)} stages, {done} done, {len(open_keys)} to do"
    cost = f"        about {span(seconds)} on this machine, {size(total)}" if open_keys else ""
    console().print(Text(f"{planned.name}   {counted}{cost}"))
    console().print(_plan_table(planned, states, estimates, found))
    return 0


def run(
    file: str | Path,
    overrides: Sequence[str],
    workspace: str | Path | None,
    launcher: str,
    jobs: int | None,
    detach: bool,
    json: bool,
) -> int:
    """Carry out an experiment and print its results; with `detach`, start that and return at once."""
    refuse_sweep(file)
    refuse_profile(file)
    found = resolve_workspace(workspace)
    read = read_experiment(file, overrides)
    planned = plan_of_file(read)
    record = run_record(planned, read.experiment, file=str(file), text=read.text, sources=read.sources)
    if not detach:
        return _carry_out(planned, read.experiment, record, found, launcher, jobs, json)
    save_run(found, record)
    log = start_detached(found, record.ref, launcher, jobs)
    if json:
        print_json({"ref": record.ref, "log": str(log)})
    else:
        say(f"started; `tokexp status {record.ref}` shows how it goes, {log} is its log")
        console().print(record.ref)
    return 0


def retry(ref: str, workspace: str | Path | None, json: bool) -> int:
    """Run again what is not done in a run that was started earlier, whatever became of it."""
    found = resolve_workspace(workspace)
    if is_sweep_ref(found, ref):
        from tokexp.verbs.sweeping import retry_sweep

        return retry_sweep(found, find_sweep(found, ref), json)
    record = load_run(found, ref)
    with chdir(record.cwd if Path(record.cwd or ".").is_dir() else "."):
        experiment, planned = plan_of(record)
        fresh = run_record(planned, experiment, file=record.spec_file, text=record.spec_text, sources=record.sources)
        if fresh.ref != record.ref:
            say(f"since {record.ref} was planned, its data or tokexp itself has changed: it becomes {fresh.ref}")
        return _carry_out(planned, experiment, fresh, found, "local", None, json)


def _carry_out(
    planned: Plan, experiment: Experiment, record: RunRecord, workspace: Workspace, launcher: str,
    jobs: int | None, json: bool,
) -> int:  # fmt: skip
    display = live_display()
    with open_launcher(launcher, jobs, display) as chosen:
        outcome = carry_out(planned, experiment, record, workspace, chosen, display)
    for failure in outcome.failures:
        say(f"{failure.name} {failure.key[:6]} failed: {failure.message}\n  see {failure.log}")
    blocked = sum(state == "blocked" for state in outcome.states.values())
    if blocked:
        say(f"{blocked} stages were not started, because they need what failed")
    if outcome.interrupted:
        say(f"interrupted; what was done is kept, and `tokexp retry {record.ref}` goes on from there")
    summary = result(workspace, record)
    if json:
        failures = [asdict(failure) for failure in outcome.failures]
        shown = {name: summary.get(name, {}) for name in ("metrics", "per_seed", "sd", "storage", "stages")}
        print_json({**shown, "ref": record.ref, "computed": list(outcome.computed), "failures": failures})
    else:
        console().print(render(summary))
    return outcome.exit_code


def carry_out(
    planned: Plan, experiment: Experiment, record: RunRecord, workspace: Workspace, launcher: Launcher,
    display: Display, *, stay: bool = True,
) -> RunOutcome:  # fmt: skip
    """Run a plan with tracking beside it, and close the display. A tracking server that is down costs nothing."""
    save_run(workspace, record)
    tracking = None
    if experiment.track.enabled and (_has_work(planned, workspace) or not _is_shown(workspace, record)):
        from tokexp.tracking.live import start_live

        tracking = start_live(workspace, record.ref, experiment.track.uri)
    try:
        return run_plan(planned, workspace, launcher, display, record, stay=stay)
    finally:
        display.close()
        if tracking is not None:
            tracking.finish()


def open_launcher(kind: str, jobs: int | None, display: Display) -> Launcher:
    """Return a launcher by its name. Raises InputError for an unknown one."""
    launcher: Launcher = implementation("launch", kind)(jobs, display.say)
    return launcher


def _has_work(planned: Plan, workspace: Workspace) -> bool:
    states = Ledger(workspace).stage_states(planned.keys())
    return any(state != "done" for state in states.values())


def _is_shown(workspace: Workspace, record: RunRecord) -> bool:
    from tokexp.tracking.sync import shown

    return shown(workspace, record)


def _stage_json(node: StageNode, state: str, estimate: Estimate) -> dict[str, Any]:
    return {
        "key": node.key,
        "kind": node.kind,
        "name": node.name,
        "label": node.label,
        "state": state,
        "inputs": dict(node.inputs),
        "seed": node.seed,
        "estimate_s": estimate.seconds,
        "bytes": estimate.bytes,
    }


def _plan_table(planned: Plan, states: dict[str, str], estimates: dict[str, Estimate], workspace: Workspace) -> Table:
    table = Table.grid(padding=(0, 2))
    several = len(planned.seeds) > 1
    for node in planned.nodes:
        state = states[node.key]
        seed = f"seed {node.seed}" if several and node.seed is not None else ""
        note = _done_note(node, workspace) if state == "done" else span(estimates[node.key].seconds)
        style = "green" if state == "done" else ("red" if state in ("failed", "damaged", "lost") else "")
        name = node.name if node.kind in ("downstream", "evaluate") else node.kind
        table.add_row("", Text(name), Text(node.label), Text(node.key[:6], "dim"), seed, Text(state, style), Text(note))
    return table


def _done_note(node: StageNode, workspace: Workspace) -> str:
    try:
        metrics = read_result(workspace.output(node.kind, node.key)).get("metrics", {})
    except DamagedError:
        return "damaged: it is computed again when it is next run"
    if node.kind in ("tokens", "images") and "bytes_per_image" in metrics:
        return f"{metrics['bytes_per_image']:.1f} bytes/image"
    shown = [name for name in ("psnr", "recovery", "top1", "loss") if name in metrics][:1]
    return " ".join(f"{name} {metrics[name]:.4g}" for name in shown)
