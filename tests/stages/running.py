"""Runs the stages of a small spec in this process, each once, as the worker would."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tokexp.engine.reporting import Silent
from tokexp.plan.graph import Plan, StageNode, build_plan
from tokexp.registry import implementation
from tokexp.spec.experiment import Experiment
from tokexp.spec.stages import StageJob
from tokexp.stages.base import StageContext, StageResult

SMALL: dict[str, Any] = {
    "schema": 1,
    "data": {"kind": "digits"},
    "tokenizer": {"kind": "patch_kmeans", "codebook_size": 16, "iterations": 5},
    "storage": {"fraction": 0.3},
    "model": {"kind": "vit", "width": 32, "depth": 2, "heads": 2, "stem": {"kind": "conv2x2"}},
    "augment": {
        "pretrain": [{"kind": "token_rrc", "scale": [0.5, 1.0]}],
        "task": [{"halves": [[{"kind": "token_rrc"}], [{"kind": "token_adapt", "geometry": {"rrc": [0.5, 1.0]}}]]}],
        "adapt": {"width": 16, "heads": 2, "train": {"epochs": 2, "batch_size": 64}},
    },
    "objective": {"kind": "mtm", "train": {"steps": 6, "batch_size": 32, "warmup": 0.0}},
    "tasks": {
        "finetune": {"kind": "classify", "train": {"steps": 12, "batch_size": 32, "lr": 3e-3, "warmup": 0.0}},
        "probe": {"kind": "probe", "lrs": [0.1], "epochs": 5},
    },
    "evaluate": {"noise": {"kind": "corruption", "name": "gaussian_noise", "severity": 5}},
}


@dataclass
class Bench:
    """A folder of outputs by stage key, and what each stage returned."""

    root: Path
    results: dict[str, StageResult] = field(default_factory=dict)

    def context(self, node: StageNode, stop: Callable[[], bool] = lambda: False, report: Any = None) -> StageContext:
        """Return a context with fresh output and the key's own scratch folder."""
        output, scratch = self.root / node.key, self.root / "work" / node.key
        for folder in (output, scratch):
            folder.mkdir(parents=True, exist_ok=True)
        job = StageJob(
            key=node.key, payload=node.payload, seed=node.seed, inputs=dict(node.inputs), workspace=str(self.root)
        )
        inputs = {role: self.root / key for role, key in node.inputs.items()}
        return StageContext(job, output, scratch, inputs, torch.device("cpu"), report or Silent(), stop)

    def run(self, node: StageNode, **options: Any) -> StageResult:
        """Run one stage, or return what it returned before."""
        if node.key not in self.results:
            stage = implementation("stages", node.kind)(node.payload)
            self.results[node.key] = stage.run(self.context(node, **options))
        return self.results[node.key]

    def run_to(self, plan: Plan, name: str, seed: int = 0) -> tuple[StageResult, Path]:
        """Run a named stage and all that it needs; return its result and output folder."""
        nodes = {node.key: node for node in plan.nodes}

        def visit(key: str) -> StageResult:
            for needed in nodes[key].inputs.values():
                visit(needed)
            return self.run(nodes[key])

        key = plan.seeds[seed][name]
        return visit(key), self.root / key


def plan_of(**changes: Any) -> Plan:
    """Return the plan of the small spec with some blocks replaced."""
    return build_plan(Experiment.model_validate({**SMALL, **changes}))
