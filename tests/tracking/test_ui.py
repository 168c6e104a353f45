"""The dashboard: MLflow's own server on the workspace's store, on loopback, until Ctrl-C."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.recorded import recorded_run, run_all, workspace_at


@pytest.mark.slow
def test_the_dashboard_answers_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    run_all(workspace, recorded_run(workspace, seeds=(0,)), steps=3)
    port = _free_port()
    command = [sys.executable, "-m", "tokexp", "ui", "--port", str(port), "--workspace", str(workspace.root)]
    # A shell that runs this in the background ignores SIGINT, which would be inherited.
    shown = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        assert _page(f"http://127.0.0.1:{port}/", 120) == 200
    finally:
        os.kill(shown.pid, signal.SIGINT)
    assert shown.wait(30) == 0
    assert not _listens(port)


def _page(address: str, seconds: float) -> int:
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return int(answer.status)
        except OSError:
            assert time.monotonic() < end, "the dashboard never answered"
            time.sleep(0.5)


@pytest.mark.slow
def test_a_dashboard_that_is_killed_takes_its_server_with_it(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    port = _free_port()
    command = [sys.executable, "-m", "tokexp", "ui", "--port", str(port), "--workspace", str(workspace.root)]
    shown = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert _page(f"http://127.0.0.1:{port}/", 120) == 200
    shown.kill()
    shown.wait()
    deadline = time.monotonic() + 30
    while _listens(port):
        assert time.monotonic() < deadline, "the server outlived its dashboard"
        time.sleep(0.2)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_ctrl_c_at_any_moment_of_the_start_leaves_no_server(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    program = (
        "import os, signal, subprocess, sys\n"
        "from tokexp.verbs import showing\n"
        "whole = showing._start_server\n"
        "def start(*given):\n"
        "    server = whole(*given)\n"
        "    print(server.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return server\n"
        "showing._start_server = start\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.exit(showing.ui({str(workspace.root)!r}, {_free_port()}, '127.0.0.1', False))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int(ended.stdout), 0)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
