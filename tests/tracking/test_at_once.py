"""Many workers and several syncs at once, and syncs that are killed: nothing is lost, nothing is shown twice."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.recorded import workspace_at
from tests.recorded_sweeps import recorded_sweep
from tests.tracking.growing import sweep_of
from tokexp.ledger.events import EventLog
from tokexp.ledger.workspace import Workspace
from tokexp.tracking import sync
from tokexp.tracking.stores import local_uri
from tokexp.tracking.sync import Syncer

STEPS = 40

WORKER = """
import sys
from pathlib import Path
from tokexp.ledger.events import EventLog
log = EventLog(Path(sys.argv[1]))
for step in range(1, int(sys.argv[2]) + 1):
    log.append("metrics", step=step, values={"loss": 1 / step})
log.close()
"""

KILLED = """
import os, sys
from pathlib import Path
from tokexp.ledger.workspace import Workspace
from tokexp.tracking import sync
from tokexp.tracking.mlflow import MlflowTracker
name, left = sys.argv[2], int(sys.argv[3])
whole = getattr(MlflowTracker, name)
def killed(self, *given, **named):
    global left
    found = whole(self, *given, **named)
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
    return found
setattr(MlflowTracker, name, killed)
sync(Workspace(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("workers", [8, pytest.param(64, marks=pytest.mark.slow)])
def test_workers_that_report_at_once_lose_nothing(tmp_path: Path, workers: int) -> None:
    workspace = workspace_at(tmp_path)
    sweep = sweep_of(workspace, total=workers)
    trials = [sweep.trial(f"case {number}") for number in range(workers)]
    logs = [sweep.start(trial) for trial in trials]
    for log in logs:
        log.close()
    processes = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(log.path), str(STEPS)], stderr=subprocess.PIPE)
        for log in logs
    ]
    over = threading.Event()
    syncing = threading.Thread(target=_keep_syncing, args=(workspace, over))
    syncing.start()
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
    over.set()
    syncing.join()
    assert ended == [(b"", 0)] * workers
    for number, (trial, log) in enumerate(zip(trials, logs, strict=True)):
        sweep.finish(trial, number / 100, log=EventLog(log.path))
    assert sync(workspace).problems == []
    client, runs = _runs(workspace)
    assert len(runs) == workers + 1
    for number in range(workers):
        run = runs[f"case {number}, seed 0"]
        assert (run.info.status, run.data.metrics["finetune/top1"]) == ("FINISHED", number / 100)
        history = client.get_metric_history(run.info.run_id, "finetune/curve/loss")
        assert sorted((point.step, point.value) for point in history) == [(n, 1 / n) for n in range(1, STEPS + 1)]


def _keep_syncing(workspace: Workspace, over: threading.Event) -> None:
    syncer = Syncer(workspace)
    while not over.is_set():
        syncer.update(live=True)


def _runs(workspace: Workspace) -> tuple[MlflowClient, dict[str, Any]]:
    client = MlflowClient(local_uri(workspace))
    experiments = [each.experiment_id for each in client.search_experiments() if each.name != "Default"]
    runs = client.search_runs(experiments, max_results=1000)
    assert len({run.info.run_name for run in runs}) == len(runs)
    return client, {run.info.run_name: run for run in runs}


@pytest.mark.slow
def test_syncs_that_are_killed_leave_nothing_that_the_next_one_does_not_make_good(tmp_path: Path) -> None:
    cases = {"a": {0: 0.5, 1: 0.6}, "b": {0: "pruned", 1: "failed"}}
    pictures = []
    for folder, kills in (("whole", []), ("killed", [("log", 1), ("open_runs", 2), ("log", 3), ("set_status", 2)])):
        workspace = workspace_at(tmp_path / folder)
        recorded_sweep(workspace, cases, total=4)
        for method, count in kills:
            program = [sys.executable, "-c", KILLED, str(workspace.root), method, str(count)]
            assert subprocess.run(program, check=False).returncode == -9
        assert sync(workspace).unreachable == []
        client, runs = _runs(workspace)
        pictures.append(
            {
                name: (run.info.status, run.data.params, run.data.tags.get("tokexp.state"), _histories(client, run))
                for name, run in runs.items()
            }
        )
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 5


def _histories(client: MlflowClient, run: Any) -> dict[str, Any]:
    return {
        name: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }
