"""A workspace with an empty store of MLflow; the store's tables are made once."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.recorded import workspace_at
from tokexp.ledger.workspace import Workspace


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path) -> Workspace:
    workspace = workspace_at(tmp_path)
    shutil.copy(empty_store, workspace.root / "mlflow.db")
    return workspace
