"""Tracking beside a run: a process of its own that never holds the run up; and a real server that dies and returns."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.recorded import finish_stage, log_steps, recorded_run, run_all, start_attempt, workspace_at
from tokexp.tracking import start_live, sync
from tokexp.tracking.stores import local_uri


def _wait_for(condition: Callable[[], object], seconds: float = 40) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def test_a_live_sync_shows_a_run_while_it_goes_on_and_completes_it(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace, seeds=(0,))
    log = start_attempt(workspace, record.nodes[0], "20260101-000000-a")
    live = start_live(workspace, record.ref)
    _wait_for(lambda: list((workspace.root / "tracking").glob("*/*.json")))
    log.close()
    run_all(workspace, record, steps=5)
    assert live.finish(timeout=60)
    found = MlflowClient(local_uri(workspace))
    experiment = found.get_experiment_by_name("recorded")
    runs = found.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 1 + len(record.nodes)


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
    _wait_for(lambda: not _runs(pid))


def _runs(pid: int) -> bool:
    try:
        return "sync_loop" in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Server:
    """A real `mlflow server` on loopback."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"

    def up(self) -> None:
        command = [
            sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}",
            "--artifacts-destination", str(self.folder / "files"),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=self.folder
        )
        _wait_for(self._answers, 120)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True

    def down(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


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
