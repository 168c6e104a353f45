"""The verbs that start sweeps and go on with them: sweep, tick."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokexp.errors import InputError
from tokexp.launch.base import Launcher
from tokexp.launch.display import SweepDisplay
from tokexp.launch.driving import Asking, cluster_of, go_on, start
from tokexp.launch.sweep_request import sweep_record
from tokexp.launch.sweeping import SweepOutcome
from tokexp.ledger.records import Ledger
from tokexp.ledger.sweeps import (
    SweepRecord,
    find_sweep,
    is_complete,
    list_sweeps,
    load_sweep,
    read_trials,
    save_sweep,
    sweep_folder,
)
from tokexp.ledger.workspace import Workspace, resolve_workspace
from tokexp.plan.graph import StageNode
from tokexp.plan.sweep import SweepPlan, build_sweep_plan, example_point, plan_points
from tokexp.report.sweep_live import sweep_display
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.cluster_reading import read_cluster
from tokexp.spec.experiment import Experiment
from tokexp.spec.sweep_reading import ReadSweep, is_experiment, read_sweep
from tokexp.verbs.detached import start_detached
from tokexp.verbs.printing import console, print_json, print_scripts, say, shown_state
from tokexp.verbs.running import open_launcher
from tokexp.verbs.specs import refuse_profile

TRACKING_SECONDS = 30.0
"""Longest time that the end of a sweep waits for MLflow to be brought up to date."""


@dataclass(frozen=True)
class How:
    """Where and for how long a sweep is driven by this command.

    on: a cluster's profile; else `launcher` with at most `jobs` stages at once. On a cluster the command ends once all
    that can be submitted is, unless it is to `watch`; `driver` has a small job of the cluster drive it. detach: a
    process of its own drives it. dry_run: print what would be submitted.
    """

    on: str | Path | None = None
    launcher: str = "local"
    jobs: int | None = None
    watch: bool = False
    driver: bool = False
    dry_run: bool = False
    detach: bool = False

    def check(self) -> None:
        """Raise InputError for options that exclude one another or need a cluster."""
        given = {"--watch": self.watch, "--driver": self.driver, "--dry-run": self.dry_run}
        alone = [name for name, is_set in given.items() if is_set]
        if self.on is None and alone:
            raise InputError(f"{' and '.join(alone)} is for sweeps on a cluster: name its profile by --on")
        if self.on is not None and (self.detach or self.jobs is not None):
            raise InputError("--detach and --jobs are for this machine; a cluster works alone, --driver goes on for it")
        if len(alone) > 1:
            raise InputError(f"{' and '.join(alone)} exclude one another; choose one")


def sweep(file: str | Path, overrides: Sequence[str], workspace: str | Path | None, how: How, json: bool) -> int:
    """Start a sweep, or go on with it, and print its table; see `How` for where and how long.

    Raises SpecError for a broken sweep, experiment or profile; nothing is submitted then.
    """
    how.check()
    found = resolve_workspace(workspace)
    refuse_profile(file)
    if is_experiment(file):
        raise InputError(f"{file} is an experiment; `tokexp run {file}` carries it out")
    read = read_sweep(file, overrides)
    cluster = None if how.on is None else read_cluster(how.on).cluster
    plan = None if read.sweep.searched else build_sweep_plan(read)
    record = sweep_record(read, _base(read, plan), cluster, plan)
    if how.dry_run:
        return _dry_run(read, plan, cluster, found, record, json)
    if how.detach:
        return _detached(found, record, how, json)
    display = sweep_display()
    stay = cluster is None or how.watch
    with tracked(found, record, stay=stay), _launcher(cluster, found, record, how, display) as launcher:
        try:
            outcome = start(read, record, found, launcher, display, stay=stay, plan=plan)
        finally:
            display.close()
    if how.driver and cluster is not None and not outcome.complete:
        job = _submit_driver(cluster, found, record.ref)
        say(f"job {job} drives the sweep from now on; `tokexp status {record.ref}` shows how it goes")
    return _report(found, record, outcome, json, sent=not stay)


def tick(ref: str | None, workspace: str | Path | None, watch: bool, json: bool) -> int:
    """Advance the sweep `ref`, or every sweep on a cluster that is not complete, by one look (until the end: watch)."""
    found = resolve_workspace(workspace)
    refs = [find_sweep(found, ref)] if ref is not None else _unfinished(found)
    if watch and len(refs) > 1:
        raise InputError(f"{len(refs)} sweeps are not complete ({', '.join(refs[:4])}); name the one to watch")
    codes, shown = [0], []
    for each in refs:
        record = read_trials(sweep_folder(found, each)).record
        cluster, display = cluster_of(record), sweep_display()
        with tracked(found, record, stay=watch), _launcher(cluster, found, record, How(), display) as launcher:
            try:
                outcome = go_on(found, each, launcher, display, stay=watch)
            finally:
                display.close()
        codes.append(outcome.exit_code if outcome.complete else 0)
        shown.append(_as_json(outcome))
        if not json:
            say(f"{each}: {_words(outcome)}")
    if json:
        print_json({"sweeps": shown})
    elif not refs:
        say("no sweep on a cluster is left to do")
    return max(codes)


def retry_sweep(workspace: Workspace, ref: str, json: bool) -> int:
    """Try again what failed or was stopped in a sweep, where it was run before."""
    record = read_trials(sweep_folder(workspace, ref)).record
    cluster = None if record.cluster is None else cluster_of(record)
    asking = Asking.now(sweep_folder(workspace, ref))
    display = sweep_display()
    stay = cluster is None
    with tracked(workspace, record, stay=stay), _launcher(cluster, workspace, record, How(), display) as launcher:
        try:
            outcome = go_on(workspace, ref, launcher, display, stay=stay, asking=asking)
        finally:
            display.close()
    return _report(workspace, record, outcome, json, sent=cluster is not None)


def _launcher(
    cluster: ClusterSpec | None, workspace: Workspace, record: SweepRecord, how: How, display: SweepDisplay
) -> Launcher:
    if cluster is None:
        return open_launcher(how.launcher, how.jobs, display)
    from tokexp.launch.slurm import SlurmLauncher

    return SlurmLauncher(cluster, workspace, record.ref, display.say)


def _submit_driver(cluster: ClusterSpec, workspace: Workspace, ref: str) -> str:
    from tokexp.launch.slurm import submit_driver

    return submit_driver(cluster, workspace, ref)


def _dry_run(
    read: ReadSweep, plan: SweepPlan | None, cluster: ClusterSpec | None, workspace: Workspace, record: SweepRecord,
    json: bool,
) -> int:  # fmt: skip
    from tokexp.launch.slurm import dry_run

    assert cluster is not None
    if plan is None:
        plan = plan_points(read.sweep.name, [example_point(read)])
        say("a search asks for one point after the other; this is what one of them takes")
    open_nodes = _not_done(plan, workspace)
    print_scripts(record.ref, dry_run(open_nodes, cluster, workspace, record.ref), json)
    return 0


def _not_done(plan: SweepPlan, workspace: Workspace) -> list[StageNode]:
    states = Ledger(workspace).stage_states(plan.plan.keys())
    return [node for node in plan.plan.nodes if states[node.key] != "done"]


def _base(read: ReadSweep, plan: SweepPlan | None) -> Experiment:
    """Return one of the sweep's experiments."""
    return plan.trials[0].point.experiment if plan is not None and plan.trials else example_point(read).experiment


def _detached(workspace: Workspace, record: SweepRecord, how: How, json: bool) -> int:
    folder = save_sweep(workspace, record)
    file = start_detached(workspace, record.ref, how.launcher, how.jobs, folder, Asking.now(folder))
    if json:
        print_json({"ref": record.ref, "log": str(file)})
    else:
        say(f"started; `tokexp status {record.ref}` shows how it goes, {file} is its log")
        console().print(record.ref)
    return 0


@contextmanager
def tracked(workspace: Workspace, record: SweepRecord, *, stay: bool = True) -> Iterator[None]:
    """Keep MLflow current while the block runs; without `stay`, bring it up to date afterwards, in the background.

    A tracking server that is down costs nothing.
    """
    if not record.track.get("enabled", True):
        yield
        return
    from tokexp.tracking.live import start_live

    if not stay:
        yield
        command = [sys.executable, "-m", "tokexp", "sync", record.ref, "--workspace", str(workspace.root)]
        nowhere = subprocess.DEVNULL
        subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
        return
    save_sweep(workspace, record)
    tracking = start_live(workspace, record.ref, record.track.get("uri"))
    try:
        yield
    finally:
        tracking.finish(TRACKING_SECONDS)


def _unfinished(workspace: Workspace) -> list[str]:
    refs = [record.ref for record in reversed(list_sweeps(workspace)) if record.cluster is not None]
    return [ref for ref in refs if not is_complete(workspace, load_sweep(workspace, ref))]


def _report(workspace: Workspace, record: SweepRecord, outcome: SweepOutcome, json: bool, *, sent: bool) -> int:
    for failure in outcome.failures:
        say(f"{failure.name} {failure.key[:6]} failed: {failure.message}\n  see {failure.log}")
    if outcome.interrupted:
        say("interrupted; what was done is kept, and the same command goes on from there")
    if sent and not outcome.complete:
        say(f"{_words(outcome)}; {_what_next(record)}")
    if json:
        print_json(_as_json(outcome))
    elif not sent or outcome.complete:
        from tokexp.report.comparison import render_sweep

        console().print(render_sweep(workspace, load_sweep(workspace, record.ref)))
    else:
        console().print(record.ref)
    return 0 if sent and not outcome.failures and not outcome.interrupted else outcome.exit_code


def _what_next(record: SweepRecord) -> str:
    status = f"`tokexp status {record.ref}` shows how it goes"
    budget = record.frozen["sweep"].get("budget", {})
    if record.searched or budget.get("parallel") or budget.get("gpu_hours"):
        return f"`tokexp tick {record.ref}` goes on with it (by hand, cron, --watch or --driver), {status}"
    return f"no process of ours has to live on, {status}, `tokexp tick` tries again what was lost"


def _words(outcome: SweepOutcome) -> str:
    counts = ", ".join(f"{count} {shown_state(state)}" for state, count in outcome.states.items())
    if outcome.complete:
        return f"complete: {counts or 'no trials'} ({outcome.note})"
    return counts or "nothing has begun yet"


def _as_json(outcome: SweepOutcome) -> dict[str, Any]:
    failures = [asdict(failure) for failure in outcome.failures]
    return {
        "ref": outcome.ref, "trials": {shown_state(state): count for state, count in outcome.states.items()},
        "complete": outcome.complete, "note": outcome.note,
        "interrupted": outcome.interrupted, "failures": failures,
    }  # fmt: skip
