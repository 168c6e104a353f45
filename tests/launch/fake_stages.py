"""Stages that take no torch and do what their label says, and plans of them. As a script, this is a worker of them.

Words of a label: `steps=N` and `sleep=S` (a checkpoint after every step), `fail=CAUSE`, `die` (kill -9 at the first
attempt's first step), `die=always`, `die=step` (at every attempt's second step), `deaf` (does not look at stop).
"""

import errno
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from tokexp import worker
from tokexp.engine.reporting import Stopped
from tokexp.errors import DataError
from tokexp.ledger.outputs import write_result
from tokexp.plan.graph import Plan, StageNode
from tokexp.plan.keys import stage_key
from tokexp.spec.data import DigitsData
from tokexp.spec.models import VitSpec
from tokexp.spec.objectives import Supervised
from tokexp.spec.resources import Resources
from tokexp.spec.stages import PretrainStage, TokenizerStage, TokensStage
from tokexp.spec.storage import StorageSpec
from tokexp.spec.tokenizers import PatchKMeans

COMMAND = (sys.executable, str(Path(__file__)))
FAILURES = {
    "code": RuntimeError("broken"), "memory": MemoryError(), "nan": FloatingPointError("loss"),
    "disk": OSError(errno.ENOSPC, "No space left on device"), "input": DataError("no images"),
}  # fmt: skip


def context(job, workspace, output, inputs, report, stop):
    scratch = workspace.work(job.key)
    return SimpleNamespace(job=job, output=output, scratch=scratch, inputs=inputs, report=report, stop=stop)


def run_stage(job, ctx):
    words = dict(word.partition("=")[::2] for word in job.label.rpartition(": ")[2].split())
    if "fail" in words:
        raise FAILURES[words["fail"]]
    file, steps = ctx.scratch / "step", int(words.get("steps", 2))
    start = int(file.read_text()) if file.exists() else 0
    if start:
        ctx.report.resumed(start)
    for step in range(start + 1, steps + 1):
        time.sleep(float(words.get("sleep", 0)))
        _die(words, ctx.scratch, step - start)
        file.write_text(str(step))
        ctx.report.checkpoint(step, file.name)
        ctx.report.metrics(step, {"loss": 1 / step})
        ctx.report.progress(step, steps, "steps")
        if "deaf" not in words and ctx.stop() and step < steps:
            raise Stopped
    (ctx.output / "out.txt").write_text("".join(sorted(job.inputs.values())) + job.key)
    result = SimpleNamespace(metrics={"steps": float(steps)}, facts={"resumed": start})
    write_result(ctx.output, result.metrics, {})
    return result


def _die(words, scratch, number):
    first = not (scratch / "died").exists()
    if "die" not in words or (words["die"] == "" and not first) or (words["die"] == "step" and number < 2):
        return
    (scratch / "died").touch()
    os.kill(os.getpid(), signal.SIGKILL)


def node(name, label="", inputs=(), resources=None, seed=0):
    """A stage called `name` that does what `label` says; `inputs` are nodes (their kinds become the roles)."""
    data, fit = DigitsData(kind="digits"), PatchKMeans(kind="patch_kmeans", seed=sum(name.encode()))
    if not inputs:
        payload = TokenizerStage(kind="tokenizer", data=data, tokenizer=fit)
    elif len(inputs) == 1 and inputs[0].kind == "tokenizer":
        payload = TokensStage(kind="tokens", data=data, tokenizer=fit, storage=StorageSpec())
    else:
        objective = Supervised(kind="supervised", label_smoothing=sum(name.encode()) / 10000)
        payload = PretrainStage(kind="pretrain", model=VitSpec(kind="vit"), policy=(), objective=objective)
    roles = {given.kind: given.key for given in inputs}
    key = stage_key(payload.kind, payload, roles, "data", seed)
    resources = resources or Resources(cpus=1)
    return StageNode(key, payload.kind, name, payload, seed, roles, "data", resources, label)


def plan(*nodes):
    return Plan("fake", "0123456789abcdef", tuple(nodes), {0: {given.name: given.key for given in nodes}})


def install():
    worker._context, worker._run_stage = context, run_stage


if __name__ == "__main__":
    install()
    sys.exit(worker.main())
