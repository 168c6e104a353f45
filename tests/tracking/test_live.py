"""Tracking beside a run: a process of its own that never holds the run up; and a real server that dies and returns."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.recorded import finish_stage, log_steps, recorded_run, run_all, start_attempt, workspace_at
from tests.tracking.growing import sweep_of
from tests.tracking.servers import Server, wait_for
from tokexp.tracking import start_live, sync
from tokexp.tracking.stores import local_uri


def test_a_live_sync_shows_a_run_while_it_goes_on_and_completes_it(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0,))
    log = start_attempt(workspace, record.nodes[0], "20260101-000000-a")
    live = start_live(workspace, record.ref)
    wait_for(lambda: list((workspace.root / "tracking").glob("*/*.json")))
    log.close()
    run_all(workspace, record, steps=5)
    assert live.finish(timeout=60)
    found = MlflowClient(local_uri(workspace))
    experiment = found.get_experiment_by_name("recorded")
    runs = found.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 1 + len(record.nodes)


def test_a_live_sync_shows_a_sweep_while_it_goes_on_and_completes_it(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    sweep = sweep_of(workspace, total=2)
    trial = sweep.trial("a")
    log = sweep.start(trial)
    log_steps(log, 1, 3)
    live = start_live(workspace, sweep.record.ref)
    wait_for(lambda: list((workspace.root / "tracking").glob("*/*.json")))
    log_steps(log, 4, 6)
    sweep.finish(trial, 0.7, log=log)
    sweep.finish(sweep.trial("b"), 0.8)
    assert live.finish(timeout=60)
    found = MlflowClient(local_uri(workspace))
    runs = found.search_runs([found.get_experiment_by_name("growth").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 3


def test_finishing_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0,))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        live = start_live(workspace, record.ref, f"http://127.0.0.1:{silent.getsockname()[1]}")
        time.sleep(0.5)
        begin = time.monotonic()
        assert not live.finish(timeout=1)
        assert time.monotonic() - begin < 5


def test_the_background_process_ends_when_its_controller_is_gone(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0,))
    program = (
        "import sys, os\nfrom pathlib import Path\nfrom tokexp.ledger.workspace import Workspace\n"
        "from tokexp.tracking import start_live\n"
        f"live = start_live(Workspace(Path({str(workspace.root)!r})), {record.ref!r}, 'http://127.0.0.1:9')\n"
        "print(live._process.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    pid = int(killed.stdout)
    wait_for(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return "sync_loop" in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
def test_a_server_that_dies_and_returns_has_everything_once(tmp_path: Path) -> None:
    workspace, server = workspace_at(tmp_path), Server(tmp_path)
    record = recorded_run(workspace, seeds=(0,), track={"enabled": True, "uri": server.uri})
    attempt = "20260101-000000-a"
    log = start_attempt(workspace, record.nodes[1], attempt)
    log_steps(log, 1, 1500)
    server.up()
    try:
        assert sync(workspace).unreachable == []
        log_steps(log, 1501, 2600)
        server.down()
        begin = time.monotonic()
        assert sync(workspace).unreachable
        assert time.monotonic() - begin < 5
        finish_stage(workspace, record.nodes[1], log, attempt)
        server.up()
        assert sync(workspace).unreachable == []
        assert sync(workspace).points == 0
        client = MlflowClient(server.uri)
        (run,) = client.search_runs(["1"], "tags.\"tokexp.kind\" = 'pretrain'")
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "loss")]
        assert sorted(steps) == list(range(1, 2601))
        assert run.info.status == "FINISHED"
    finally:
        server.down()


@pytest.mark.slow
def test_a_server_that_dies_in_mid_sweep_and_returns_has_every_trial_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    workspace, server = workspace_at(tmp_path), Server(tmp_path)
    sweep = sweep_of(workspace, total=3, track={"uri": server.uri})
    trials = [sweep.trial(name) for name in ("a", "b", "c")]
    logs = [sweep.start(trial) for trial in trials]
    for log in logs:
        log_steps(log, 1, 30)
    server.up()
    try:
        sweep.finish(trials[0], 0.7, log=logs[0])
        assert sync(workspace, live=True).unreachable == []
        server.down()
        log_steps(logs[1], 31, 50)
        sweep.finish(trials[1], 0.8, log=logs[1])
        assert sync(workspace, live=True).unreachable
        sweep.finish(trials[2], 0.9, log=logs[2])
        server.up()
        assert sync(workspace).unreachable == []
        assert sync(workspace).points == 0
        client = MlflowClient(server.uri)
        runs = {run.info.run_name: run for run in client.search_runs(["1"], "tags.\"tokexp.trial\" != ''")}
        assert {name: run.data.metrics["finetune/top1"] for name, run in runs.items()} == {
            "a, seed 0": 0.7, "b, seed 0": 0.8, "c, seed 0": 0.9,
        }  # fmt: skip
        history = client.get_metric_history(runs["b, seed 0"].info.run_id, "finetune/curve/loss")
        assert sorted(point.step for point in history) == list(range(1, 51))
        assert {run.info.status for run in client.search_runs(["1"])} == {"FINISHED"}
    finally:
        server.down()
