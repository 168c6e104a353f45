"""The numbers of a run under the names by which people compare them: `finetune/top1`, `storage/bytes_per_image`.

A test on clean test images counts as its task's own result (`finetune/top1`); other tests keep their name between
(`finetune/noise/top1`).
"""

from collections.abc import Mapping

from tokexp.errors import DamagedError
from tokexp.ledger.outputs import is_done, read_result
from tokexp.ledger.runs import RunNode, RunRecord
from tokexp.ledger.workspace import Workspace

PREFIXES = {"tokens": "storage", "images": "storage"}
"""The first word of a metric's name, for stages whose name is not it."""


def prefix(node: RunNode) -> str:
    """Return what stands before the names of a stage's metrics."""
    evaluation = node.payload.get("evaluation") or {}
    if node.kind == "evaluate" and evaluation.get("kind") == "clean" and evaluation.get("split", "test") == "test":
        return node.name.split("/", maxsplit=1)[0]
    return PREFIXES.get(node.kind, node.name)


def stage_metrics(workspace: Workspace, node: RunNode) -> dict[str, float] | None:
    """Return the metrics of a finished stage under their full names, None if it is not finished."""
    folder = workspace.output(node.kind, node.key)
    if not is_done(folder):
        return None
    try:
        found = read_result(folder)["metrics"]
    except (DamagedError, KeyError):
        return None
    return {f"{prefix(node)}/{name}": float(value) for name, value in found.items()}


def named_metrics(workspace: Workspace, nodes: Mapping[str, RunNode], keys: Mapping[str, str]) -> dict[str, float]:
    """Return full metric name to value for one trial, or one seed of a run; stages that are not finished add none.

    nodes: stage key to stage. keys: stage name to stage key. Where a task and its test on clean images report the same
    name, the test's value stands.
    """
    found: dict[str, float] = {}
    wanted = [nodes[key] for key in keys.values() if key in nodes]
    for node in sorted(wanted, key=lambda node: node.kind == "evaluate"):
        found.update(stage_metrics(workspace, node) or {})
    return found


def per_seed(workspace: Workspace, record: RunRecord) -> dict[str, dict[int, float]]:
    """Return metric name to seed to value, for all finished stages of a run."""
    nodes = {node.key: node for node in record.nodes}
    table: dict[str, dict[int, float]] = {}
    for seed, keys in record.seeds.items():
        for name, value in named_metrics(workspace, nodes, keys).items():
            table.setdefault(name, {})[seed] = value
    return table


def means(table: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """Return the mean of every metric over its seeds."""
    return {name: sum(values.values()) / len(values) for name, values in table.items()}
