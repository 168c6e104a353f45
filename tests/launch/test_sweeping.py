import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.launch import fake_trials
from tests.launch.fake_trials import BASE, drive, finished
from tokexp.launch.display import Quiet
from tokexp.launch.driving import go_on
from tokexp.launch.sweeping import SweepOutcome
from tokexp.ledger.events import read_events
from tokexp.ledger.sweeps import is_complete, list_sweeps, load_sweep, read_trials, sweep_folder
from tokexp.tracking.measures import named_metrics

GRID = "grid: {tasks.finetune.train.lr: [0.01, 0.02, 0.03, 0.04]}\n"
SEARCH = """\
space:
  tasks.finetune.train.lr: {float: [0.001, 0.1], log: true}
sampler: {kind: tpe, startup: 3, seed: 1}
"""


class Trials(Quiet):
    """Remembers what was said and how many trials were at work at once."""

    def __init__(self):
        self.said, self.now, self.most = [], set(), 0

    def trial(self, trial, state, note=""):
        (self.now.add if state in ("planned", "running") else self.now.discard)(trial.id)
        self.most = max(self.most, len(self.now))

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def write(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE)

    def written(text, name="sweep.yaml"):
        (tmp_path / name).write_text(f"schema: 1\nname: fake\nexperiment: base.yaml\n{text}")
        return tmp_path / name

    return written


@pytest.fixture
def faults(monkeypatch):
    def choose(**given):
        monkeypatch.setenv("FAKE_TRIALS", json.dumps(given))

    return choose


def at_once(workspace):
    """Return the most fine-tunings that were at work at the same time, by their own events."""
    edges = []
    for folder in workspace.attempts.iterdir():
        events = read_events(folder / "events.jsonl")[0]
        # One that found its stage claimed, as it happens after a controller was killed, has nothing but that to say.
        if events and events[0].get("kind") == "downstream":
            edges += [(events[0]["t"], 1), (events[-1]["t"], -1)]
    most = now = 0
    for _, change in sorted(edges):
        now += change
        most = max(most, now)
    return most


def trials_of(workspace, outcome: SweepOutcome):
    return load_sweep(workspace, outcome.ref).trials


def top1s(workspace, outcome):
    sweep = load_sweep(workspace, outcome.ref)
    return [named_metrics(workspace, sweep.nodes, trial.keys).get("finetune/top1") for trial in sweep.trials]


def test_a_static_sweep_runs_every_trial_once_and_shares_stages(workspace, write):
    outcome = drive(workspace, write(GRID + "seeds: [0, 1]\n"))
    assert outcome.states == {"done": 8}
    assert outcome.complete
    assert outcome.exit_code == 0
    assert top1s(workspace, outcome) == [0.01, 0.01, 0.02, 0.02, 0.03, 0.03, 0.04, 0.04]
    assert set(finished(workspace).values()) == {1}
    assert len(finished(workspace)) == 1 + 1 + 8 + 8
    again = drive(workspace, write(GRID + "seeds: [0, 1]\n"))
    assert again.ref == outcome.ref
    assert again.states == {"done": 8}
    assert sum(finished(workspace).values()) == 18


def test_trials_at_once_never_exceed_parallel(workspace, write, faults):
    faults(sleep=0.05)
    notes = Trials()
    drive(workspace, write(GRID + "seeds: [0, 1]\nbudget: {parallel: 2}\n"), notes)
    assert notes.most == 2
    assert at_once(workspace) <= 2


def test_a_budget_of_trials_is_exact_and_may_be_enlarged(workspace, write):
    first = drive(workspace, write(GRID + "budget: {trials: 2}\n"))
    assert first.states == {"done": 2}
    assert "budget of 2 trials" in first.note
    done = finished(workspace)
    second = drive(workspace, write(GRID + "budget: {trials: 3}\n"))
    assert second.ref == first.ref
    assert second.states == {"done": 3}
    assert finished(workspace) - done == dict.fromkeys(finished(workspace).keys() - done.keys(), 1)


def test_a_failed_trial_is_said_and_tried_again_when_asked(workspace, write, faults):
    faults(fail=[0.02])
    outcome = drive(workspace, write(GRID))
    assert outcome.states == {"done": 3, "failed": 1}
    assert outcome.exit_code == 1
    failed = next(trial for trial in trials_of(workspace, outcome) if trial.state == "failed")
    assert failed.note.startswith("finetune: RuntimeError: this learning rate is too large")
    faults()
    assert drive(workspace, write(GRID)).states == {"done": 4}


def test_a_budget_of_failures_ends_the_sweep(workspace, write, faults):
    faults(fail=[0.01, 0.02])
    outcome = drive(workspace, write(GRID + "budget: {parallel: 1, failures: 2}\n"))
    assert outcome.states == {"failed": 2}
    assert "2 trials failed" in outcome.note


def test_a_killed_worker_does_not_cost_a_trial(workspace, write, faults):
    faults(die=[0.01, 0.03])
    outcome = drive(workspace, write(GRID))
    assert outcome.states == {"done": 4}
    assert top1s(workspace, outcome) == [0.01, 0.02, 0.03, 0.04]


def test_a_search_keeps_its_budget_and_learns(workspace, write):
    file = write(SEARCH + "budget: {trials: 7, parallel: 3}\n")
    outcome = drive(workspace, file)
    assert outcome.states == {"done": 7}
    found = top1s(workspace, outcome)
    assert len(set(found)) == 7
    more = drive(workspace, write(SEARCH + "budget: {trials: 9, parallel: 3}\n"))
    assert more.ref == outcome.ref
    assert more.states == {"done": 9}
    assert top1s(workspace, more)[:7] == found


def test_seeds_of_a_searched_point_are_told_together(workspace, write):
    import optuna

    file = write(SEARCH + "seeds: [0, 1]\nbudget: {trials: 7, parallel: 2}\n")
    outcome = drive(workspace, file)
    assert outcome.states == {"done": 6}
    backend = optuna.storages.journal.JournalFileBackend(str(sweep_folder(workspace, outcome.ref) / "study.journal"))
    study = optuna.load_study(study_name="fake", storage=optuna.storages.JournalStorage(backend))
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert [trial.values[0] for trial in complete] == pytest.approx(top1s(workspace, outcome)[::2])


def test_a_pruned_trial_keeps_its_record_and_is_not_repeated(workspace, write, faults):
    faults(steps=30, sleep=0.05)
    pruner = "pruner: {kind: threshold, stage: finetune, metric: loss, upper: 40, direction: minimize}\n"
    space = "space: {tasks.finetune.train.lr: {choice: [0.01, 0.05]}}\nsampler: {kind: grid}\n"
    outcome = drive(workspace, write(space + pruner + "budget: {trials: 2, parallel: 2}\n"))
    assert outcome.states == {"done": 1, "pruned": 1}
    assert outcome.exit_code == 0
    pruned = next(trial for trial in trials_of(workspace, outcome) if trial.state == "pruned")
    events = [
        read_events(folder / "events.jsonl")[0]
        for folder in workspace.attempts.iterdir()
        if folder.name.startswith(pruned.keys["finetune"][:10])
    ]
    assert len(events) == 1
    assert events[0][-1]["reason"] == "pruned"
    assert 0 < max(event.get("step", 0) for event in events[0]) < 30
    assert drive(workspace, write(space + pruner + "budget: {trials: 2, parallel: 2}\n")).states == outcome.states


def test_pruning_spares_a_stage_that_another_trial_needs(workspace, write, faults):
    faults(steps=20, sleep=0.05)
    text = """\
cases:
  plain: {}
  tested: {evaluate: {shifted: {kind: corruption, name: gaussian_noise, severity: 1}}}
space: {tasks.finetune.train.lr: {choice: [0.01]}}
sampler: {kind: grid}
pruner: {kind: threshold, stage: finetune, metric: loss, upper: 40, direction: minimize}
budget: {trials: 2, parallel: 2}
"""
    outcome = drive(workspace, write(text))
    assert outcome.states == {"pruned": 2}  # Both report the same losses, so that both are given up.
    assert set(finished(workspace).values()) == {1}


def test_several_metrics_constraints_and_conditions_work_together(workspace, write):
    text = """\
space:
  tasks.finetune.train.lr: {choice: [0.01, 0.02, 0.03]}
  tokenizer.codebook_size: {choice: [4, 8, 16], when: {tasks.finetune.train.lr: {above: 0.015}}}
exclude: [{tasks.finetune.train.lr: 0.03, tokenizer.codebook_size: 16}]
metrics:
  - {name: finetune/top1, direction: maximize}
  - {name: storage/bytes_per_image, direction: minimize}
constraints: [{metric: storage/bytes_per_image, at_most: 10}]
sampler: {kind: nsga2, population: 4}
budget: {trials: 20, parallel: 3}
"""
    outcome = drive(workspace, write(text))
    trials = trials_of(workspace, outcome)
    values = {tuple(trial.values.values()) for trial in trials}
    allowed = {(0.01,), (0.02, 4), (0.02, 8), (0.02, 16), (0.03, 4), (0.03, 8)}
    assert values == allowed
    assert len(trials) == len(allowed), "a point was tried twice"
    assert outcome.states == {"done": 6}
    assert outcome.complete


def _start(workspace, file):
    command = [sys.executable, "-c", fake_trials.PROGRAM, "sweep", str(workspace.root), str(file)]
    return subprocess.Popen(command)


@pytest.mark.parametrize("text", [GRID + "seeds: [0, 1]\n", SEARCH + "budget: {trials: 8, parallel: 3}\n"])
def test_a_controller_that_is_killed_again_and_again_loses_and_doubles_nothing(workspace, write, faults, text):
    faults(sleep=0.1)
    file, chance = write(text), random.Random(7)
    for _ in range(6):
        process = _start(workspace, file)
        time.sleep(0.6 + chance.random() * 1.2)
        process.send_signal(signal.SIGKILL)
        process.wait()
    outcome = drive(workspace, file)
    assert outcome.states == {"done": 8}
    assert max(finished(workspace).values()) == 1
    sweep = read_trials(sweep_folder(workspace, outcome.ref))
    events = read_events(sweep_folder(workspace, outcome.ref) / "trials.jsonl")[0]
    ended = Counter(event["trial"] for event in events if event["e"] == "ended")
    assert set(ended.values()) == {1}
    assert len(sweep.trials) == 8


def test_two_controllers_at_once_do_the_work_once(workspace, write, faults):
    faults(sleep=0.1)
    file = write(GRID + "budget: {parallel: 2}\n")
    both = [_start(workspace, file) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert set(finished(workspace).values()) == {1}
    assert at_once(workspace) <= 2


def test_an_interrupt_saves_and_the_same_command_goes_on(workspace, write, faults):
    faults(steps=40, sleep=0.05)
    file = write(GRID)
    process = _start(workspace, file)
    deadline = time.monotonic() + 30
    while not any(workspace.root.glob("work/*/step")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    ref = list_sweeps(workspace)[0].ref
    assert not is_complete(workspace, load_sweep(workspace, ref))
    steps = max(int(path.read_text()) for path in workspace.root.glob("work/*/step"))
    assert steps < 40
    outcome = drive(workspace, file)
    assert outcome.states == {"done": 4}
    assert is_complete(workspace, load_sweep(workspace, ref))


def test_a_saved_sweep_goes_on_without_its_files(workspace, write, tmp_path):
    outcome = drive(workspace, write(SEARCH + "budget: {trials: 3, parallel: 1}\n"))
    (tmp_path / "base.yaml").unlink()
    (tmp_path / "sweep.yaml").unlink()
    with fake_trials.launcher() as chosen:
        again = go_on(workspace, outcome.ref, chosen, stay=True)
    assert again.states == {"done": 3}


def test_gc_keeps_what_a_sweep_needs(workspace, write):
    from tokexp.ledger.cleaning import gc

    outcome = drive(workspace, write(GRID))
    assert [item for item in gc(workspace).removed if item.what == "output"] == []
    assert drive(workspace, write(GRID)).states == {"done": 4}
    assert set(finished(workspace).values()) == {1}
    for file in sorted(Path(sweep_folder(workspace, outcome.ref)).iterdir()):
        file.unlink()
    assert len([item for item in gc(workspace).removed if item.what == "output"]) == 10
