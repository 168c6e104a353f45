"""How fast specs are validated and stages are planned; neither loads torch."""

import copy
from typing import Any

import yaml

from tokexp.bench.base import BenchRow, at_most, seconds
from tokexp.plan.graph import build_plan
from tokexp.spec.experiment import Experiment

TRIALS, TRIALS_BOUND_S = 10_000, 2.0
STAGES, STAGES_BOUND_S = 1_000, 1.0
REPEATS = 3
"""The fastest of so many is given: what is asked is what the code needs, not what else the machine did."""

SPEC = """\
schema: 1
name: bench
data: {kind: digits}
tokenizer: {kind: patch_kmeans, patch_size: 2, codebook_size: 64}
model: {kind: vit, width: 96, depth: 4, heads: 4, stem: {kind: conv2x2}}
augment:
  pretrain: [{kind: token_rrc, scale: [0.5, 1.0]}]
  task: [{kind: token_cutmix}]
objective: {kind: mtm, train: {epochs: 60, batch_size: 256, lr: 1.5e-3}}
tasks:
  finetune: {kind: classify, train: {epochs: 40, lr: 1.0e-3, layer_decay: 0.75}}
  probe: {kind: probe}
evaluate:
  noise: {kind: corruption, name: gaussian_noise, severity: 3}
"""


def rows() -> list[BenchRow]:
    """Measure, within about ten seconds on one core."""
    validated = min(seconds(validate_trials) for _ in range(REPEATS))
    planned = min(seconds(plan_stages) for _ in range(REPEATS))
    return [
        at_most(f"{TRIALS:,} specs validated", validated, "s", TRIALS_BOUND_S),
        BenchRow("specs validated per second", TRIALS / validated, "1/s"),
        at_most(f"{STAGES:,} stages planned", planned, "s", STAGES_BOUND_S),
        BenchRow("stages planned per second", STAGES / planned, "1/s"),
    ]


def validate_trials(count: int = TRIALS) -> list[Experiment]:
    """Return `count` experiments that differ in two values, each validated from plain values."""
    given = yaml.safe_load(SPEC)
    return [Experiment.model_validate(_trial(given, number)) for number in range(count)]


def plan_stages(count: int = STAGES) -> int:
    """Plan experiments of several seeds until they have `count` stages; return the number planned."""
    given, found, number = yaml.safe_load(SPEC), 0, 0
    while found < count:
        spec = Experiment.model_validate({**_trial(given, number), "seeds": tuple(range(5))})
        found += len(build_plan(spec).nodes)
        number += 1
    return found


def _trial(given: dict[str, Any], number: int) -> dict[str, Any]:
    trial = copy.copy(given)
    train = {**given["objective"]["train"], "lr": 1e-3 + 1e-7 * number, "epochs": 10 + number % 50}
    trial["objective"] = {**given["objective"], "train": train}
    return trial
