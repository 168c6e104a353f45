"""What all tests share: one torch thread, and no leftovers from the caller's environment."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(autouse=True)
def _own_workspace(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep a test without `--workspace` away from the caller's workspace and tracking server."""
    monkeypatch.setenv("TOKEXP_WORKSPACE", str(tmp_path_factory.mktemp("workspace")))
    monkeypatch.setenv("TOKEXP_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
