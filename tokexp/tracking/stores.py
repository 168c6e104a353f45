"""Which tracking store a run or a sweep is shown in, and whether it answers. `open_tracker` alone loads MLflow."""

import os
import socket
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tokexp.ledger.runs import RunRecord
from tokexp.ledger.sweeps import SweepRecord
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.base import Tracker, UnreachableError

CONNECT_S = 2.0
"""Seconds that a tracking server may take to accept a connection."""

LOCK_S = 30.0
"""Seconds to wait for another sync of the same run or sweep."""

VARIABLE = "MLFLOW_TRACKING_URI"


def local_uri(workspace: Workspace) -> str:
    """Return the workspace's own store: SQLite by an absolute path, so that it is one from every folder."""
    return f"sqlite:///{workspace.root.resolve() / 'mlflow.db'}"


def artifact_uri(workspace: Workspace) -> str:
    """Return where the workspace's own store keeps files."""
    return (workspace.root.resolve() / "mlartifacts").as_uri()


def track_of(record: RunRecord | SweepRecord) -> Mapping[str, Any]:
    """Return the block `track` that a run or a sweep was asked for with."""
    return record.track if isinstance(record, SweepRecord) else record.resolved.get("track") or {}


def tracking_uri(workspace: Workspace, record: RunRecord | SweepRecord | None = None) -> str:
    """Return the record's `track.uri`, else MLFLOW_TRACKING_URI, else the workspace's own store."""
    track = track_of(record) if record is not None else {}
    return str(track.get("uri") or os.environ.get(VARIABLE) or local_uri(workspace))


def experiment_of(record: RunRecord | SweepRecord) -> str:
    """Return the name of MLflow's experiment: `track.experiment`, else the name of the run or the sweep."""
    return str(track_of(record).get("experiment") or record.name)


def state_path(workspace: Workspace, ref: str, uri: str) -> Path:
    """Return the file that says how far a run or a sweep has been shown in a store."""
    return workspace.root / "tracking" / blake2b(uri.encode(), digest_size=6).hexdigest() / f"{ref}.json"


TrackerOf = Callable[[Workspace, str, str], Tracker]
"""Opens the experiment of a name (the last argument) in the store of an address."""


def open_tracker(workspace: Workspace, uri: str, experiment: str) -> Tracker:
    """Open an experiment in an MLflow store. Raises UnreachableError if it does not answer."""
    if (reason := why_unreachable(uri)) is not None:
        raise UnreachableError(reason)
    from tokexp.tracking.mlflow import MlflowTracker

    artifacts = artifact_uri(workspace) if uri == local_uri(workspace) else None
    return MlflowTracker(uri, experiment, artifacts, workspace.root / "tracking" / "open.lock")


def why_unreachable(uri: str) -> str | None:
    """Return why a tracking server cannot be reached, None if it accepts connections or is a file."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"}:
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_S).close()
    except OSError as error:
        return f"{parts.scheme}://{parts.hostname}:{port} does not answer ({error.strerror or error})"
    return None
