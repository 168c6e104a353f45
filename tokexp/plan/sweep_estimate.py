"""What the stages of a whole sweep will take, each once."""

from collections.abc import Callable, Mapping
from functools import cache

from tokexp.plan.estimate import Durations, Estimate, estimate_stage, shape_of
from tokexp.plan.sweep import SweepPlan
from tokexp.spec.data import DataSpec

Counts = Callable[[DataSpec], Mapping[str, int]]
"""Data to its number of images by split, {} if it is not known."""


def estimate_sweep(plan: SweepPlan, counts: Counts, durations: Durations | None = None) -> dict[str, Estimate]:
    """Return what every stage of a sweep will take, by key; a shared stage as in the first trial that needs it."""
    nodes = {node.key: node for node in plan.plan.nodes}
    known = None if durations is None else cache(durations)
    found: dict[str, Estimate] = {}
    images: list[tuple[DataSpec, Mapping[str, int]]] = []
    for trial in plan.trials:
        if found.keys() >= set(trial.keys.values()):
            continue
        data = trial.point.experiment.data
        split = next((given for other, given in images if other is data or other == data), None)
        if split is None:
            split = counts(data)
            images.append((data, split))
        own = [nodes[key] for key in trial.keys.values()]
        shape = shape_of([node.payload for node in own], split)
        found.update({node.key: estimate_stage(node, shape, known) for node in own if node.key not in found})
    return found
