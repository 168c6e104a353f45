"""What a run found out: the numbers by name and seed, the storage they cost, and the state of every stage."""

from collections.abc import Mapping
from statistics import fmean, stdev
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from tokexp.errors import DamagedError
from tokexp.ledger.outputs import is_done, read_result
from tokexp.ledger.records import AttemptRecord, Ledger
from tokexp.ledger.runs import RunNode, RunRecord
from tokexp.ledger.workspace import Workspace
from tokexp.report.quantities import size, span
from tokexp.tracking.measures import per_seed

PARTS = {
    "indices": "indices (the tokens)", "pixels": "encoded images", "index": "index of blocks and images",
    "labels": "labels", "soft_labels": "soft labels", "codebook": "codebook",
    "tables": "the codec's tables", "header": "header",
}  # fmt: skip
"""What the bytes of a store are counted under, and what people read."""

SHARES = frozenset(
    {
        "top1", "top5", "accuracy", "recovery", "mean_class_top1", "select_top1", "ensemble_top1", "patch_top1",
        "agreement",
    }
)  # fmt: skip
"""Metrics in [0, 1] that are shown in percent."""

HEADLINES = ("top1", "psnr", "recovery")
"""Metrics that are shown first; the others are in reports and in JSON."""

Result = dict[str, Any]


def result(workspace: Workspace, record: RunRecord) -> Result:
    """Return a run's result, JSON-ready.

    metrics: name to mean over seeds. per_seed: name to seed to value. sd: name to standard deviation over seeds
    (n - 1), where there are at least two. storage: the accounting of the training store, in bytes and bytes per
    image, and the pixels' raw bytes. stages: state, seconds and metrics of each.
    """
    table = per_seed(workspace, record)
    return {
        "ref": record.ref,
        "name": record.name,
        "spec_hash": record.spec_hash,
        "created": record.created,
        "seeds": list(record.seeds),
        "metrics": {name: fmean(values.values()) for name, values in table.items()},
        "per_seed": {name: {str(seed): value for seed, value in values.items()} for name, values in table.items()},
        "sd": {name: stdev(values.values()) for name, values in table.items() if len(values) > 1},
        "storage": _storage(workspace, record),
        "stages": _stages(workspace, record),
    }


def _storage(workspace: Workspace, record: RunRecord) -> dict[str, Any]:
    # Of a model of pixels the stored images count; its tokens, if there are any, are what it learns to predict.
    node = next((node for kind in ("images", "tokens") for node in record.nodes if node.kind == kind), None)
    facts = {} if node is None else _facts(workspace, node)
    accounting: dict[str, float] = facts.get("accounting") or {}
    if not accounting:
        return {}
    raw = facts.get("raw_bytes_per_image")
    per_image = float(accounting["bytes_per_image"])
    return {
        **accounting,
        "codec": facts.get("codec"),
        "source_images": facts.get("source_images"),
        **{name: facts[name] for name in ("skipped_images",) if facts.get(name)},
        "raw_bytes_per_image": raw,
        "share_of_raw": per_image / raw if raw else None,
    }


def _facts(workspace: Workspace, node: RunNode) -> dict[str, Any]:
    return dict(_found(workspace, node).get("facts", {}))


def _found(workspace: Workspace, node: RunNode) -> dict[str, Any]:
    folder = workspace.output(node.kind, node.key)
    if not is_done(folder):
        return {}
    try:
        return read_result(folder)
    except DamagedError:
        return {}


def _stages(workspace: Workspace, record: RunRecord) -> list[dict[str, Any]]:
    ledger = Ledger(workspace)
    ledger.refresh()
    states = ledger.stage_states(node.key for node in record.nodes)
    seconds: dict[str, float] = {}
    for attempt in ledger.attempts():
        seconds[attempt.key] = seconds.get(attempt.key, 0.0) + _length(attempt)
    return [
        {
            "key": node.key, "kind": node.kind, "name": node.name, "label": node.label, "seed": node.seed,
            "state": states[node.key], "seconds": round(seconds[node.key], 3) if node.key in seconds else None,
            "metrics": _found(workspace, node).get("metrics", {}),
        }
        for node in record.nodes
    ]  # fmt: skip


def _length(attempt: AttemptRecord) -> float:
    if attempt.seconds is not None:
        return attempt.seconds
    return max(0.0, (attempt.ended or attempt.updated) - attempt.started)


def value_text(name: str, value: float) -> str:
    """Return one value as people read it: shares in percent, others with four digits or whole."""
    last = name.rsplit("/", maxsplit=1)[-1].partition("_at_")[0]
    if last in SHARES:
        return f"{100 * value:.2f} %"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def spread_text(found: Mapping[str, Any], name: str) -> str:
    """Return a metric's mean, its standard deviation over seeds, and over how many: `93.10 % +- 0.42 (n=3)`."""
    text, seeds = value_text(name, found["metrics"][name]), len(found["per_seed"][name])
    if name not in found["sd"]:
        return f"{text} (n={seeds})"
    spread = value_text(name, found["sd"][name]).removesuffix(" %")
    return f"{text} \u00b1 {spread} (n={seeds})"


def is_seeded(found: Mapping[str, Any], name: str) -> bool:
    """Tell whether a metric comes from stages that use the run's seed."""
    own = name.split("/", maxsplit=1)[0]
    return any(stage["seed"] is not None and stage["name"].split("/")[0] == own for stage in found["stages"])


def shown_text(found: Mapping[str, Any], name: str) -> str:
    """Return a metric as tables show it: with its spread if it depends on the seed, else the value."""
    return spread_text(found, name) if is_seeded(found, name) else value_text(name, found["metrics"][name])


def headlines(found: Mapping[str, Any]) -> list[str]:
    """Return the metrics that matter most, accuracies of tasks first."""
    names = [name for name in found["metrics"] if name.rsplit("/", maxsplit=1)[-1] in HEADLINES]
    return sorted(names, key=lambda name: HEADLINES.index(name.rsplit("/", maxsplit=1)[-1]))


def other_metrics(found: Mapping[str, Any]) -> list[str]:
    """Return all other metrics in the order of the stages; storage has a table of its own."""
    first = set(headlines(found))
    return [name for name in found["metrics"] if name not in first and not name.startswith("storage/")]


def render(found: Mapping[str, Any]) -> RenderableType:
    """Return a result as tables for the terminal."""
    parts: list[RenderableType] = [Text(f"{found['ref']}", style="bold")]
    states = [stage["state"] for stage in found["stages"]]
    if (left := len(states) - states.count("done")) > 0:
        parts.append(Text(f"{left} of {len(states)} stages are not done; their numbers are missing", style="yellow"))
    if names := headlines(found) or other_metrics(found):
        parts.append(_metric_table(found, names))
    if found["storage"]:
        parts.append(_storage_table(found["storage"]))
    seconds = sum(stage["seconds"] or 0.0 for stage in found["stages"])
    parts.append(Text(f"computed in {span(seconds)}", style="dim"))
    return Group(*parts)


def _metric_table(found: Mapping[str, Any], names: list[str]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("result")
    table.add_column("mean \u00b1 sd over seeds", justify="right")
    for name in names:
        table.add_row(Text(name), Text(shown_text(found, name)))
    return table


def storage_rows(storage: Mapping[str, Any]) -> list[tuple[str, float, float]]:
    """Return (what, bytes, bytes per image) for every part of the stored training set, and their sum."""
    images = max(1, storage["images"])
    rows = [(text, float(storage[name]), storage[name] / images) for name, text in PARTS.items() if storage.get(name)]
    return [*rows, ("in all", float(storage["total"]), float(storage["bytes_per_image"]))]


def _storage_table(storage: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column(f"storage ({storage['images']:,.0f} images)")
    for title in ("bytes", "bytes per image"):
        table.add_column(title, justify="right")
    for what, count, per_image in storage_rows(storage):
        table.add_row(Text(what), size(count), f"{per_image:.2f}")
    if skipped := storage.get("skipped_images"):
        table.add_row("left out: images that cannot be read", f"{skipped:,.0f}", "")
    if storage["raw_bytes_per_image"]:
        raw = storage["raw_bytes_per_image"]
        table.add_row("as raw pixels", size(raw * storage["images"]), f"{raw:.2f}")
        what = "tokens over pixels" if "indices" in storage else "stored over raw pixels"
        table.add_row(what, "", f"{100 * storage['share_of_raw']:.1f} %")
    return table
