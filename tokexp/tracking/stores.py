"""Which tracking store a run is shown in, and whether it answers. No MLflow here."""

import os
import socket
from urllib.parse import urlsplit

from tokexp.ledger.runs import RunRecord
from tokexp.ledger.workspace import Workspace

CONNECT_S = 2.0
"""Seconds that a tracking server may take to accept a connection."""

VARIABLE = "MLFLOW_TRACKING_URI"


def local_uri(workspace: Workspace) -> str:
    """Return the workspace's own store: SQLite by an absolute path, so that it is one from every folder."""
    return f"sqlite:///{workspace.root.resolve() / 'mlflow.db'}"


def artifact_uri(workspace: Workspace) -> str:
    """Return where the workspace's own store keeps files."""
    return (workspace.root.resolve() / "mlartifacts").as_uri()


def tracking_uri(workspace: Workspace, record: RunRecord | None = None) -> str:
    """Return the run's `track.uri`, else MLFLOW_TRACKING_URI, else the workspace's own store."""
    track = (record.resolved.get("track") or {}) if record is not None else {}
    return str(track.get("uri") or os.environ.get(VARIABLE) or local_uri(workspace))


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
