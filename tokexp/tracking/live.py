"""Tracking while a run goes on: a process of its own, so that importing and waiting for MLflow delays no stage."""

import os
import subprocess
import sys
from collections.abc import Mapping

from tokexp.ledger.workspace import Workspace

_SERVER_PATIENCE: Mapping[str, str] = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
}


class LiveSync:
    """A background sync of one run. `finish` ends it; what it has not shown by then, `tokexp sync` shows."""

    def __init__(self, process: "subprocess.Popen[bytes] | None") -> None:
        """Made by `start_live`."""
        self._process = process

    def finish(self, timeout: float = 10.0) -> bool:
        """Let it show the rest, waiting at most `timeout` seconds. Returns whether all was shown in that time."""
        process, self._process = self._process, None
        if process is None:
            return False
        try:
            if process.stdin is not None:
                process.stdin.close()
            return process.wait(timeout) == 0
        except (subprocess.TimeoutExpired, OSError):
            process.kill()
            process.wait()
            return False

    def __enter__(self) -> "LiveSync":
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish."""
        self.finish()


def start_live(workspace: Workspace, ref: str, uri: str | None = None) -> LiveSync:
    """Keep the tracking of a run current in the background, in the store `uri` or the run's own. Never raises.

    It ignores Ctrl-C in the terminal and ends by itself when this process dies.
    """
    environment = {**_SERVER_PATIENCE, **os.environ}
    if uri is not None:
        environment["MLFLOW_TRACKING_URI"] = uri
    folder = workspace.root / "tracking"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{ref}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tokexp.tracking.sync_loop", str(workspace.root), ref],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
    except OSError:
        return LiveSync(None)
    return LiveSync(process)
