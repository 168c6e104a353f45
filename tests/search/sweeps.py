"""Small searched sweeps, and a way to run one for some trials."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokexp.search.study import Search
from tokexp.spec.sweep import SweepSpec

TOP1 = {"name": "finetune/top1", "direction": "maximize"}
BYTES = {"name": "storage/bytes_per_image", "direction": "minimize"}

MIXED: dict[str, Any] = {
    "train.lr": {"float": [1e-5, 1e-1], "log": True},
    "train.dropout": {"float": [0.0, 0.5], "step": 0.1},
    "model.depth": {"int": [1, 12]},
    "tokenizer.kind": {"choice": ["kmeans", "vqvae", "fsq"]},
}
"""A space of each kind of dimension, unconditional."""

CONDITIONAL: dict[str, Any] = {
    "codec.level": {"choice": ["fast", "best"], "when": {"codec.kind": "rans"}},
    "codec.kind": {"choice": ["packed", "rans"]},
    "codec.lanes": {"int": [1, 4], "when": {"codec.level": ["best"]}},
    "train.lr": {"float": [0.001, 0.1], "log": True},
}
"""A space with dimensions that exist only under others, two deep, not written in their order."""

NUMBERS: dict[str, Any] = {"x": {"float": [-5.0, 5.0]}, "y": {"float": [-5.0, 5.0]}}
"""A space that every sampler can search."""


def sweep_of(space: Mapping[str, Any], **fields: Any) -> SweepSpec:
    """Return a sweep of a space; one metric to maximize unless `metrics` are given."""
    given = {"schema": 1, "name": "search", "experiment": "digits.yaml", "metrics": [TOP1], "space": dict(space)}
    return SweepSpec.model_validate({**given, **fields})


def score(values: Mapping[str, Any]) -> float:
    """Return a number that depends on all values, best in the middle of ranges."""
    total = 0.0
    for path, value in sorted(values.items()):
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            total -= abs(math.log10(value) + 3) if path == "train.lr" else abs(value - 0.25)
        else:
            total -= len(str(value)) / 10
    return total


def run(search: Search, count: int, told: Callable[[Mapping[str, Any]], Sequence[float]] | None = None) -> list[Any]:
    """Ask and tell a number of trials, one after another; return what was asked."""
    asked = []
    for _ in range(count):
        point = search.ask()
        assert point is not None
        asked.append(point)
        search.tell(point.number, told(point.values) if told else [score(point.values)])
    return asked


def values_after(folder: Path, sweep: SweepSpec, count: int) -> list[dict[str, Any]]:
    """Return the values of the first trials of a fresh search."""
    return [asked.values for asked in run(Search(folder, sweep), count)]
