"""What a SQLite store of MLflow shows of a workspace's runs."""

from typing import Any

from mlflow import MlflowClient
from mlflow.entities import ViewType

from tokexp.ledger.workspace import Workspace
from tokexp.tracking.stores import local_uri


def client(workspace: Workspace) -> MlflowClient:
    return MlflowClient(local_uri(workspace))


def all_runs(workspace: Workspace, view: int = ViewType.ACTIVE_ONLY) -> list[Any]:
    found = client(workspace)
    experiments = [item.experiment_id for item in found.search_experiments() if item.name != "Default"]
    return list(found.search_runs(experiments, run_view_type=view, max_results=1000)) if experiments else []


def by_name(workspace: Workspace) -> dict[str, Any]:
    runs = all_runs(workspace)
    assert len({run.info.run_name for run in runs}) == len(runs)
    return {run.info.run_name: run for run in runs}
