"""MLflow 3 as a tracker, through `MlflowClient` alone: no global state of MLflow is read or set.

Its SQL stores refuse to hold the same (metric, step, time, value) twice, which makes sending again harmless. The first
opening of an SQLite store creates tables and fails if two processes do it at once, so that it happens under a lock.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from tokexp.ledger.locks import file_lock
from tokexp.tracking.base import Point, RunDeletedError, Status, TrackedRun, Tracker, UnreachableError

P = ParamSpec("P")
R = TypeVar("R")

POINTS_PER_CALL = 1000
PARAMS_PER_CALL = 100
"""MLflow's limits for one request."""

NAME_LIMIT = 250
PARAM_LIMIT = 6000
TAG_LIMIT = 5000
"""Longest names and values that MLflow keeps."""

_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""Settings of MLflow that a caller may override: nothing is reported, and a server that hangs is given up soon."""


def _reported(method: Callable[Concatenate["MlflowTracker", P], R]) -> Callable[Concatenate["MlflowTracker", P], R]:
    """Turn whatever MLflow and the libraries below it raise into UnreachableError."""

    @wraps(method)
    def call(self: "MlflowTracker", /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except (RunDeletedError, UnreachableError):
            raise
        except Exception as error:
            first = str(error).strip().splitlines() or [type(error).__name__]
            raise UnreachableError(f"{self.uri}: {first[0]}") from error

    return call


class MlflowTracker(Tracker):
    """One experiment in one tracking store.

    uri: `http(s)://...` or an SQL URL. artifacts: where a store without a server keeps files; None leaves it to the
    server. lock: file that opening is done under.
    """

    def __init__(self, uri: str, experiment: str, artifacts: str | None, lock: Path) -> None:
        """Open the store and find or create the experiment. Raises UnreachableError if that fails."""
        self.uri = uri
        with file_lock(lock):
            self._open(experiment, artifacts)

    @_reported
    def _open(self, experiment: str, artifacts: str | None) -> None:
        for name, value in _DEFAULTS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        self._client = MlflowClient(tracking_uri=self.uri)
        self._experiment = self._find_experiment(experiment, artifacts)

    def _find_experiment(self, name: str, artifacts: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = None if artifacts is None else f"{artifacts}/{name}"
            # The dashboard opens such an experiment on its runs, not on traces of language models.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(self._client.create_experiment(name, artifact_location=location, tags=kind))
        if found.lifecycle_stage == "deleted":
            raise RunDeletedError(f"the experiment {name!r} was deleted in {self.uri}; restore it there")
        return str(found.experiment_id)

    @_reported
    def open_run(self, run: TrackedRun) -> str:
        """See Tracker."""
        found = self._search(run)
        if found is not None and found.info.lifecycle_stage == "deleted":
            raise RunDeletedError(f"the run {run.name!r} was deleted in {self.uri}")
        run_id = str(found.info.run_id) if found is not None else self._create(run)
        self._log_params(run_id, run.params)
        return run_id

    def _search(self, run: TrackedRun) -> Any:
        from mlflow.entities import ViewType

        wanted = f"tags.\"tokexp.key\" = '{run.key}'"
        if run.parent is not None:
            wanted += f" and tags.\"mlflow.parentRunId\" = '{run.parent}'"
        found = self._client.search_runs([self._experiment], wanted, run_view_type=ViewType.ALL, max_results=10)
        return next((item for item in found if item.info.lifecycle_stage == "active"), found[0] if found else None)

    def _create(self, run: TrackedRun) -> str:
        tags = {name[:NAME_LIMIT]: value[:TAG_LIMIT] for name, value in run.tags.items()}
        tags["tokexp.key"] = run.key
        if run.parent is not None:
            tags["mlflow.parentRunId"] = run.parent
        made = self._client.create_run(self._experiment, start_time=run.start_ms, tags=tags, run_name=run.name)
        return str(made.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entries = [Param(name[:NAME_LIMIT], value[:PARAM_LIMIT]) for name, value in params.items()]
        for start in range(0, len(entries), PARAMS_PER_CALL):
            self._client.log_batch(run_id, params=entries[start : start + PARAMS_PER_CALL], synchronous=True)

    @_reported
    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """See Tracker."""
        from mlflow.entities import Metric

        entries = [Metric(point.name[:NAME_LIMIT], point.value, point.time_ms, point.step) for point in points]
        for start in range(0, len(entries), POINTS_PER_CALL):
            self._client.log_batch(run_id, metrics=entries[start : start + POINTS_PER_CALL], synchronous=True)

    @_reported
    def log_text(self, run_id: str, name: str, text: str) -> None:
        """See Tracker."""
        self._client.log_text(run_id, text, name)

    @_reported
    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        """See Tracker."""
        if status == "RUNNING":
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status=status, end_time=end_ms)
