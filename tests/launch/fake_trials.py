"""Stages without torch whose results follow from their spec, and a controller of sweeps of them.

A fine-tuning with learning rate LR takes STEPS steps with loss 1 / LR and ends with top1 = LR. Faults by learning
rate: those in FAIL fail, those in DIE are killed once. COMMAND runs a worker of them.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

from tests.launch.fake_stages import context
from tokexp import worker
from tokexp.engine.reporting import Stopped
from tokexp.launch.driving import start
from tokexp.launch.local import LocalLauncher
from tokexp.launch.slots import Slots
from tokexp.launch.sweep_request import sweep_record
from tokexp.ledger.events import read_events
from tokexp.ledger.outputs import write_result
from tokexp.ledger.workspace import Workspace
from tokexp.plan.sweep import build_sweep_plan, example_point
from tokexp.spec.sweep_reading import read_sweep

ROOT = Path(__file__).parents[2]
PROGRAM = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.launch.fake_trials import main; sys.exit(main())"
COMMAND = (sys.executable, "-c", PROGRAM, "worker")
BASE = """\
schema: 1
name: fake
data: {kind: digits}
tokenizer: {kind: patch_kmeans, patch_size: 2, codebook_size: 16}
model: {kind: vit, width: 32, depth: 1, heads: 2, stem: {kind: conv2x2}}
tasks:
  finetune: {kind: classify, init: scratch, train: {epochs: 3, batch_size: 256, lr: 0.01}}
resources: {default: {cpus: 1}}
track: {enabled: false}
"""


def settings():
    return {"steps": 3, "sleep": 0.02, "fail": [], "die": [], **json.loads(os.environ.get("FAKE_TRIALS", "{}"))}


def run_stage(job, ctx):
    metrics = {"tokens": _tokens, "downstream": _train, "evaluate": _evaluate}.get(job.payload.kind, lambda *_: {})(
        job, ctx
    )
    (ctx.output / "out.json").write_text(json.dumps(metrics))
    write_result(ctx.output, metrics, {})
    return SimpleNamespace(metrics=metrics, facts={})


def _tokens(job, ctx):
    return {"bytes_per_image": float(job.payload.tokenizer.codebook_size)}


def _train(job, ctx):
    lr, given = job.payload.task.train.lr, settings()
    if lr in given["fail"]:
        raise RuntimeError("this learning rate is too large")
    file = ctx.scratch / "step"
    first = int(file.read_text()) if file.exists() else 0
    for step in range(first + 1, given["steps"] + 1):
        time.sleep(given["sleep"])
        if lr in given["die"] and step == 2 and not (ctx.scratch / "died").exists():
            (ctx.scratch / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        file.write_text(str(step))
        ctx.report.checkpoint(step, file.name)
        ctx.report.metrics(step, {"loss": 1 / lr})
        if ctx.stop() and step < given["steps"]:
            raise Stopped
    return {"lr": lr}


def _evaluate(job, ctx):
    return {"top1": json.loads((ctx.inputs["downstream"] / "out.json").read_text())["lr"]}


def launcher(cpus=4):
    return LocalLauncher(slots=Slots(cpus, ()), command=COMMAND)


def drive(workspace, file, display=None, overrides=(), launcher=launcher):
    """Carry out the sweep in `file` and return its outcome and its ref."""
    read = read_sweep(file, overrides)
    plan = None if read.sweep.searched else build_sweep_plan(read)
    base = example_point(read).experiment if plan is None else plan.trials[0].point.experiment
    record = sweep_record(read, base)
    with launcher() as chosen:
        return start(read, record, workspace, chosen, display, plan=plan)


def finished(workspace):
    """Return how often each stage was computed to its end."""
    count = Counter()
    for folder in workspace.attempts.iterdir():
        events = read_events(folder / "events.jsonl")[0]
        count.update([events[0]["key"]] if events and events[-1]["e"] == "done" else [])
    return count


def main():
    """Be a worker, or the controller of a sweep, as the first argument says."""
    if sys.argv[1] == "worker":
        worker._context, worker._run_stage = context, run_stage
        return worker.main(sys.argv[2:])
    return drive(Workspace(Path(sys.argv[2])), sys.argv[3]).exit_code
