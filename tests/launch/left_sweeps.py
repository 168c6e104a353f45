"""Sweeps as a controller leaves them that dies: begun trials, stages at work, and what was computed."""

import json
from collections import Counter
from contextlib import contextmanager

from tests.launch import fake_stages, fake_trials
from tests.launch.fake_trials import BASE, drive
from tokexp import worker
from tokexp.launch.attempts import new_attempt
from tokexp.launch.inline import InlineLauncher
from tokexp.launch.run import run_plan
from tokexp.launch.sweep_request import run_node, sweep_record, trial_record
from tokexp.launch.work import stage_job
from tokexp.ledger.claims import Claim
from tokexp.ledger.events import EventLog, read_events
from tokexp.ledger.sweeps import (
    TrialLog,
    save_sweep,
    sweep_folder,
)
from tokexp.plan.graph import Plan
from tokexp.plan.sweep import build_sweep_plan, example_point, plan_points
from tokexp.spec.sweep_reading import read_sweep

GRID = "grid: {tasks.finetune.train.lr: [0.01, 0.02, 0.03]}\n"
SEARCH = """\
space:
  tasks.finetune.train.lr: {float: [0.001, 0.1], log: true}
sampler: {kind: tpe, startup: 2, seed: 1}
"""
PRUNED = SEARCH + "pruner: {kind: threshold, stage: finetune, metric: loss, upper: 40, direction: minimize}\n"


def writer(tmp_path, monkeypatch):
    """Return a function that writes a sweep of stages without torch, which this process carries out itself."""
    monkeypatch.setattr(worker, "_context", fake_stages.context)
    monkeypatch.setattr(worker, "_run_stage", fake_trials.run_stage)
    monkeypatch.setenv("FAKE_TRIALS", json.dumps({"steps": 1, "sleep": 0}))
    (tmp_path / "base.yaml").write_text(BASE)

    def written(text):
        (tmp_path / "sweep.yaml").write_text(f"schema: 1\nname: fake\nexperiment: base.yaml\n{text}")
        return tmp_path / "sweep.yaml"

    return written


def inline(workspace, file):
    return drive(workspace, file, launcher=InlineLauncher)


def begun(workspace, file, points=None):
    """Leave the sweep as a controller does that dies when it has written down its first trials; return its folder."""
    read = read_sweep(file)
    plan = plan_points("fake", [example_point(read)]) if read.sweep.searched else build_sweep_plan(read)
    record = sweep_record(read, plan.trials[0].point.experiment, None, None if read.sweep.searched else plan)
    log, seen, numbers = TrialLog(save_sweep(workspace, record)), set(), {}
    log.asked()
    for trial in plan.trials[:points]:
        number = numbers.setdefault(trial.point.id, len(numbers))
        fresh = [node for node in plan.plan.nodes if node.key in set(trial.keys.values()) - seen]
        seen |= {node.key for node in fresh}
        log.trial(trial_record(trial, number), [run_node(node) for node in fresh])
    log.close()
    return sweep_folder(workspace, record.ref), plan


def ends(folder):
    return Counter(event["trial"] for event in read_events(folder / "trials.jsonl")[0] if event["e"] == "ended")


@contextmanager
def at_work(workspace, node):
    """Hold a stage as an attempt does whose controller died; gives its folder."""
    folder = new_attempt(workspace, stage_job(node, workspace, "fake"))
    with Claim.take(workspace, node.key, folder.name), EventLog(folder / "events.jsonl") as log:
        log.append("started", attempt=folder.name, key=node.key, kind=node.kind, gpus=0)
        yield folder, log


def finetunings(plan):
    return [node for node in plan.plan.nodes if node.name == "finetune"]


def upstream(workspace, file, plan):
    """Compute what the fine-tunings of a plan need."""
    wanted = [node for node in plan.plan.nodes if node.kind in ("tokenizer", "tokens")]
    run_plan(Plan("fake", "0123456789abcdef", tuple(wanted), {}), workspace, InlineLauncher())


def look(driver):
    """Let a controller take up what is at work, see what it says, and act on that."""
    for _ in range(3):
        driver.round()
