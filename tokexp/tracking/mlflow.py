"""MLflow 3 as a tracker, through `MlflowClient` alone: no global state of MLflow is read or set.

Its SQL stores refuse to hold the same (metric, step, time, value) twice, which makes sending again harmless. The first
opening of an SQLite store creates tables and fails if two processes do it at once, so that it happens under a lock.
"""

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from tokexp.ledger.locks import file_lock
from tokexp.tracking.base import Point, RunDeletedError, Status, TrackedRun, Tracker, UnreachableError

P = ParamSpec("P")
R = TypeVar("R")

POINTS_PER_CALL = 800
PARAMS_PER_CALL = 100
TAGS_PER_CALL = 100
RUNS_PER_CALL = 1000
"""Limits for one request: MLflow takes 100 parameters, 100 tags, and 1000 things in all."""

NAME_LIMIT = 250
PARAM_LIMIT = 6000
TAG_LIMIT = 5000
"""Longest names and values that MLflow keeps."""

_REFUSED = re.compile(r"[^\w\-. :/]", re.ASCII)

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
            if "must be in the 'active' state" in first[0]:
                raise RunDeletedError(f"{self.uri}: {first[0]}") from error
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
    def label(self, name: str, text: str) -> None:
        """See Tracker. A text that is too long for MLflow is left out."""
        if len(text) <= TAG_LIMIT:
            self._client.set_experiment_tag(self._experiment, name, text)

    def page(self) -> str:
        """See Tracker."""
        return f"#/experiments/{self._experiment}/runs"

    @_reported
    def open_runs(self, runs: Sequence[TrackedRun]) -> list[str | None]:
        """See Tracker."""
        if not runs:
            return []
        known = self._search(runs)
        found: list[str | None] = []
        for run in runs:
            run_id = known[run.key] if run.key in known else self._create(run)
            if run_id is not None and run.params:
                self.log(run_id, params=run.params)
            found.append(run_id)
        return found

    def _search(self, runs: Sequence[TrackedRun]) -> dict[str, str | None]:
        """Return key to id of those runs that are there, None for those that were deleted."""
        from mlflow.entities import ViewType

        parent = runs[0].parent
        wanted = [] if parent is None else [f"tags.\"mlflow.parentRunId\" = '{parent}'"]
        if parent is None or len(runs) == 1:
            wanted.append(f"tags.\"tokexp.key\" = '{runs[0].key}'")
        known: dict[str, str | None] = {}
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], " and ".join(wanted), run_view_type=ViewType.ALL, max_results=RUNS_PER_CALL,
                page_token=token,
            )  # fmt: skip
            for run in page:
                key, active = run.data.tags.get("tokexp.key", ""), run.info.lifecycle_stage == "active"
                known[key] = str(run.info.run_id) if active else known.get(key)
            token = page.token
            if not token:
                return known

    def _create(self, run: TrackedRun) -> str:
        tags = _shortened(run.tags)
        tags["tokexp.key"] = run.key
        if run.parent is not None:
            tags["mlflow.parentRunId"] = run.parent
        made = self._client.create_run(self._experiment, start_time=run.start_ms, tags=tags, run_name=run.name)
        return str(made.info.run_id)

    @_reported
    def log(
        self, run_id: str, points: Sequence[Point] = (), tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """See Tracker."""
        from mlflow.entities import Metric, Param, RunTag

        entries = [Metric(name_for_mlflow(each.name), each.value, each.time_ms, each.step) for each in points]
        named = [RunTag(name, value) for name, value in _shortened(tags or {}).items()]
        given = [Param(name_for_mlflow(name), value[:PARAM_LIMIT]) for name, value in (params or {}).items()]
        while entries or named or given:
            self._client.log_batch(
                run_id, entries[:POINTS_PER_CALL], given[:PARAMS_PER_CALL], named[:TAGS_PER_CALL], synchronous=True
            )
            entries, given, named = entries[POINTS_PER_CALL:], given[PARAMS_PER_CALL:], named[TAGS_PER_CALL:]

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


def name_for_mlflow(name: str) -> str:
    """Return a name of a metric or parameter with the characters and in the length that MLflow takes."""
    return _REFUSED.sub("_", name)[:NAME_LIMIT]


def _shortened(tags: Mapping[str, str]) -> dict[str, str]:
    return {name[:NAME_LIMIT]: value[:TAG_LIMIT] for name, value in tags.items()}
