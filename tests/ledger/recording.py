"""Attempts and outputs as workers leave them, for tests of the ledger."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import publish, stage_output
from tokexp.ledger.workspace import Workspace

KEY, OTHER = "ab" * 20, "cd" * 20


def log_of(workspace: Workspace, attempt: str) -> EventLog:
    return EventLog(workspace.attempt(attempt) / "events.jsonl")


def start(log: EventLog, key: str = KEY, kind: str = "pretrain") -> None:
    attempt = log.path.parent.name
    log.append(
        "started", attempt=attempt, key=key, kind=kind, label="mtm vit", seed=0, inputs={"tokens": OTHER},
        pid=1, host="node1", versions={"torch": "2.13"},
    )  # fmt: skip


def run_whole(workspace: Workspace, attempt: str, key: str = KEY, *, flops: float | None = None) -> None:
    with log_of(workspace, attempt) as log:
        start(log, key)
        for step in range(5):
            log.append("metrics", step=step, values={"loss": 1.0 - 0.1 * step, "rate": 0.1})
        log.append("progress", done=5, total=5, unit="steps", rate=2.0)
        log.append("done", metrics={"top1": 0.5}, facts={"flops": flops} if flops else {}, seconds=3.0)


def publish_one(workspace: Workspace, key: str = KEY) -> Path:
    with stage_output(workspace, "pretrain", key, "a") as folder:
        (folder / "weights").write_bytes(b"w" * 10)
        publish(folder, workspace.output("pretrain", key), {})
    return workspace.output("pretrain", key)


def content(workspace: Workspace) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(workspace.ledger_file)) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()
            for table in ("attempts", "metrics", "offsets")
        }
