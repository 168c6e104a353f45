"""What a sweep's controller costs per trial: stages that do nothing, everything around them as it is.

Records, claims' checks, keys, events read, the ledger and (for a search) Optuna are what is measured; the time in which
the stand-in for workers writes its events and outputs is left out.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tokexp.bench.base import BenchRow, at_most, seconds
from tokexp.launch.base import DONE, EVENTS_FILE, JOB_FILE, Ended, Handle, Launcher
from tokexp.launch.driving import start
from tokexp.launch.sweep_request import sweep_record
from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import job_record, publish, stage_output, write_result
from tokexp.ledger.workspace import Workspace
from tokexp.plan.sweep import build_sweep_plan, example_point, expand
from tokexp.spec.resources import Resources
from tokexp.spec.stages import StageJob
from tokexp.spec.sweep_reading import ReadSweep, read_sweep

TRIALS, BOUND_S, GOAL_S = 1000, 0.050, 0.015
EXPANDED, EXPANDED_BOUND_S = 10_000, 2.0
REPORTS = 5
"""Values on the way that every trial of the search reports."""

EXPERIMENT = """\
schema: 1
name: bench
data: {kind: digits}
tokenizer: {kind: patch_kmeans, patch_size: 2, codebook_size: 64}
model: {kind: vit, width: 96, depth: 4, heads: 4, stem: {kind: conv2x2}}
tasks:
  finetune: {kind: classify, init: scratch, train: {epochs: 40, batch_size: 128, lr: 1.0e-3}}
track: {enabled: false}
"""
HEAD = """\
schema: 1
name: bench
experiment: experiment.yaml
"""
DISTINCT = f"""{HEAD}\
grid:
  tasks.finetune.train.lr: [LRS]
"""
STATIC = f"""{DISTINCT}\
  tasks.finetune.train.weight_decay: [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.09]
"""
SEARCH = (
    HEAD
    + """\
space:
  tasks.finetune.train.lr: {float: [1.0e-4, 1.0e-2], log: true}
  tasks.finetune.train.weight_decay: {float: [0.0, 0.1]}
  tasks.finetune.train.epochs: {int: [10, 60]}
  tasks.finetune.label_smoothing: {float: [0.0, 0.3]}
sampler: {kind: tpe}
pruner: {kind: threshold, stage: finetune, metric: loss, upper: 1000}
budget: {trials: COUNT, parallel: 16}
"""
)


class InstantLauncher(Launcher):
    """Finishes an attempt when it is next asked about it; `seconds` is the time that this took itself."""

    blocking = True
    poll_seconds = 0.0

    def __init__(self) -> None:
        """Start with nothing to do."""
        self.seconds = 0.0
        self._queue: list[Path] = []

    def submit(self, folder: Path, resources: Resources) -> Handle:
        """Take an attempt."""
        self._queue.append(folder)
        return Handle(folder)

    def poll(self) -> list[Ended]:
        """Finish all attempts and return them."""
        begin = time.perf_counter()
        folders, self._queue = self._queue, []
        for folder in folders:
            _finish(folder)
        self.seconds += time.perf_counter() - begin
        return [Ended(Handle(folder), DONE) for folder in folders]

    def cancel(self, handle: Handle, *, force: bool = False) -> None:
        """Do nothing: whatever was taken ends at once."""

    def close(self) -> None:
        """Do nothing."""


def rows() -> list[BenchRow]:
    """Measure, within about two minutes on one core."""
    with tempfile.TemporaryDirectory() as folder:
        static = _read(Path(folder), STATIC.replace("LRS", _numbers(TRIALS // 10)))
        search = _read(Path(folder), SEARCH.replace("COUNT", str(TRIALS)))
        expanded = _expanding(Path(folder), STATIC.replace("LRS", _numbers(EXPANDED // 10)))
        distinct = _expanding(Path(folder), DISTINCT.replace("LRS", _numbers(EXPANDED)))
        planned = seconds(lambda: build_sweep_plan(static))
        known, asked = (per_trial(read, Workspace(Path(folder) / kind)) for kind, read in _kinds(static, search))
    goal = f"goal {1000 * GOAL_S:g} ms"
    return [
        at_most(f"{EXPANDED:,} trials read, expanded and validated", expanded, "s", EXPANDED_BOUND_S),
        at_most("the same, no value twice", distinct, "s", EXPANDED_BOUND_S),
        BenchRow(f"{TRIALS:,} trials planned", planned, "s"),
        at_most(f"controller per trial, grid of {TRIALS:,}", 1000 * known, "ms", 1000 * BOUND_S, goal),
        at_most(f"controller per trial, search of {TRIALS:,} (TPE, pruner)", 1000 * asked, "ms", 1000 * BOUND_S, goal),
    ]


def per_trial(read: ReadSweep, workspace: Workspace) -> float:
    """Return the controller's seconds per trial of a sweep whose stages do nothing."""
    launcher = InstantLauncher()
    plan = None if read.sweep.searched else build_sweep_plan(read)
    base = example_point(read) if plan is None else plan.trials[0].point
    begin = time.perf_counter()
    outcome = start(read, sweep_record(read, base.experiment), workspace, launcher, plan=plan)
    spent = time.perf_counter() - begin - launcher.seconds
    return spent / max(1, outcome.states.get("done", 0))


def _expanding(folder: Path, text: str) -> float:
    """Return the least seconds of two readings of a sweep, from its file to its points."""
    _read(folder, text)
    return min(seconds(lambda: expand(read_sweep(folder / "sweep.yaml"))) for _ in range(2))


def _kinds(static: ReadSweep, search: ReadSweep) -> Sequence[tuple[str, ReadSweep]]:
    return ("static", static), ("search", search)


def _read(folder: Path, text: str) -> ReadSweep:
    (folder / "experiment.yaml").write_text(EXPERIMENT, encoding="utf-8")
    (folder / "sweep.yaml").write_text(text, encoding="utf-8")
    return read_sweep(folder / "sweep.yaml")


def _numbers(count: int) -> str:
    return ", ".join(f"{1e-4 + 1e-6 * number:.7f}" for number in range(count))


def _finish(folder: Path) -> None:
    job = StageJob.model_validate_json((folder / JOB_FILE).read_bytes())
    workspace, kind = Workspace(Path(job.workspace)), job.payload.kind
    metrics = {"top1": 0.5, "bytes_per_image": 10.0}
    with EventLog(folder / EVENTS_FILE) as log:
        log.append("started", attempt=folder.name, key=job.key, kind=kind, label=job.label, host="here", pid=1)
        for step in range(REPORTS):
            log.append("metrics", step=step, values={"loss": 1.0 / (1 + step)})
        with stage_output(workspace, kind, job.key, folder.name) as output:
            write_result(output, metrics, {})
            publish(output, workspace.output(kind, job.key), job_record(job, folder.name, {}))
        log.append("done", metrics=metrics, facts={}, seconds=0.0)
