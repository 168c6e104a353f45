"""A recorded run without any computing: outputs, events and the record are written as attempts and a planner would."""

import json
import math
from pathlib import Path
from typing import Any

from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import publish, stage_output, write_result
from tokexp.ledger.runs import RunNode, RunRecord, save_run
from tokexp.ledger.workspace import Workspace

SPEC_TEXT = """\
# A recorded run for tests: digits, MTM, fine-tuning.
# Paper: SeiT++, table 2.
schema: 1
name: recorded
data: {kind: digits}
"""
ACCOUNTING = {
    "indices": 15084, "index": 120, "labels": 629, "codebook": 1024, "header": 482, "images": 1257,
    "total": 17339, "bytes_per_image": 17339 / 1257,
}  # fmt: skip
FACTS = {"accounting": ACCOUNTING, "raw_bytes_per_image": 64, "codec": "packed", "source_images": 1257}


def key_of(name: str, seed: int | None = None) -> str:
    """Return a stage key that a name and a seed decide."""
    return f"{name}-{seed}".encode().hex().ljust(40, "0")[:40]


def recorded_run(
    workspace: Workspace, seeds: tuple[int, ...] = (0, 1), track: dict[str, Any] | None = None
) -> RunRecord:
    """Save and return the record of a run with tokens, pre-training, fine-tuning and two tests for every seed."""
    nodes = [
        RunNode(key=key_of("tokens"), kind="tokens", name="tokens", label="digits, packed", payload={"kind": "tokens"})
    ]
    named: dict[int, dict[str, str]] = {}
    for seed in seeds:
        named[seed] = {"tokens": key_of("tokens")}
        for kind, name, extra in (
            ("pretrain", "pretrain", {"objective": {"kind": "mtm", "train": {"lr": 1e-3, "epochs": 2}}}),
            ("downstream", "finetune", {"task": {"kind": "classify"}}),
            ("evaluate", "finetune/clean", {"evaluation": {"kind": "clean", "split": "test"}}),
            ("evaluate", "finetune/noise", {"evaluation": {"kind": "corruption", "name": "gaussian_noise"}}),
        ):
            named[seed][name] = key_of(name, seed)
            payload = {"kind": kind, **extra}
            nodes.append(RunNode(key=key_of(name, seed), kind=kind, name=name, seed=seed, label=name, payload=payload))
    record = RunRecord(
        name="recorded", spec_hash="ab" * 20, created=1_000_000.0, spec_file="recorded.yaml", spec_text=SPEC_TEXT,
        resolved={"schema": 1, "name": "recorded", "data": {"kind": "digits"}, "track": track or {"enabled": True}},
        provenance={"git": {"commit": "c0ffee", "dirty": True}, "host": "laptop", "versions": {"tokexp": "0.1.0"}},
        nodes=tuple(nodes), seeds=named,
    )  # fmt: skip
    save_run(workspace, record)
    return record


def start_attempt(workspace: Workspace, node: RunNode, attempt: str) -> EventLog:
    """Return the open event log of a new attempt at a stage, `started` written."""
    folder = workspace.create().attempt(attempt)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"key": node.key}))
    log = EventLog(folder / "events.jsonl")
    log.append("started", attempt=attempt, key=node.key, kind=node.kind, label=node.label, seed=node.seed)
    return log


def log_steps(log: EventLog, first: int, last: int) -> None:
    """Write one `metrics` event for each step from `first` to `last`."""
    for step in range(first, last + 1):
        log.append("metrics", step=step, values={"loss": 4 * math.exp(-step / 30) + 0.1, "lr": 1e-3 * step})


def finish_stage(workspace: Workspace, node: RunNode, log: EventLog, attempt: str) -> None:
    """Publish a stage's output and say that it is done."""
    metrics = metrics_of(node)
    with stage_output(workspace, node.kind, node.key, attempt) as folder:
        write_result(folder, metrics, FACTS if node.kind == "tokens" else {})
        publish(folder, workspace.output(node.kind, node.key), {"kind": node.kind, "key": node.key})
    log.append("done", metrics=metrics, facts={}, seconds=12.5)
    log.close()


def metrics_of(node: RunNode) -> dict[str, float]:
    """Return the numbers that a stage of the recorded run found."""
    seed = node.seed or 0
    if node.kind == "tokens":
        return {"bytes_per_image": 17339 / 1257, "bytes": 17339.0}
    if node.kind == "evaluate":
        return {"top1": (0.9 if node.name.endswith("clean") else 0.5) + 0.02 * seed, "top5": 0.99}
    return {"loss": 0.5 + 0.1 * seed}


def run_all(workspace: Workspace, record: RunRecord, steps: int = 40) -> None:
    """Carry out every stage of a run, each in one attempt."""
    for number, node in enumerate(record.nodes):
        attempt = f"20260101-000000-{number:04d}"
        log = start_attempt(workspace, node, attempt)
        if node.kind in {"pretrain", "downstream"}:
            log_steps(log, 1, steps)
        finish_stage(workspace, node, log, attempt)


def workspace_at(folder: Path) -> Workspace:
    """Return a new workspace in a folder."""
    return Workspace(folder / "workspace").create()
