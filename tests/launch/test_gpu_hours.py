"""A sweep's budget of GPU hours: never exceeded, work saved, and gone on with when it is enlarged."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests.launch import fake_trials
from tests.launch.fake_trials import BASE, drive, finished
from tokexp.launch.allowance import raise_to, seconds_used, within
from tokexp.launch.driving import go_on
from tokexp.launch.local import LocalLauncher
from tokexp.launch.slots import Slots
from tokexp.ledger.events import EventLog, read_events
from tokexp.ledger.records import Ledger
from tokexp.ledger.sweeps import is_complete, load_sweep, read_trials
from tokexp.ledger.workspace import Workspace

GRID = "grid: {tasks.finetune.train.lr: [0.01, 0.02, 0.03, 0.04]}\n"
SEARCH = "space: {tasks.finetune.train.lr: {float: [0.001, 0.1], log: true}}\nsampler: {kind: random, seed: 1}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a sweep whose fine-tunings take 2 s (40 steps) on one GPU each."""
    monkeypatch.setenv("FAKE_TRIALS", json.dumps({"steps": 40, "sleep": 0.05}))
    base = BASE.replace("resources: {default: {cpus: 1}}", "resources: {default: {cpus: 1}, downstream: {gpus: 1}}")
    (tmp_path / "base.yaml").write_text(base)

    def written(text, seconds, parallel=2, more=""):
        budget = f"budget: {{gpu_hours: {seconds / 3600!r}, parallel: {parallel}{more}}}\n"
        (tmp_path / "sweep.yaml").write_text(f"schema: 1\nname: fake\nexperiment: base.yaml\n{text}{budget}")
        return tmp_path / "sweep.yaml"

    return written


def launcher():
    return LocalLauncher(slots=Slots(4, ("0", "1")), command=fake_trials.COMMAND)


def gpu_seconds(workspace):
    """Return the GPU seconds of all attempts by their own events, independently of the ledger."""
    total = 0.0
    for folder in workspace.attempts.glob("*"):
        events = read_events(folder / "events.jsonl")[0]
        if events and events[0].get("gpus"):  # none where the stage was found claimed
            total += (events[-1]["t"] - events[0]["t"]) * events[0]["gpus"]
    return total


def steps_taken(workspace):
    """Return every training step that an attempt reported, with its stage."""
    return Counter(
        (folder.name[:10], event["step"])
        for folder in workspace.attempts.iterdir()
        for event in read_events(folder / "events.jsonl")[0]
        if event["e"] == "metrics" and "loss" in event["values"]
    )


def test_gpu_hours_are_never_exceeded_and_nothing_is_done_twice(workspace, write):
    outcome = drive(workspace, write(GRID, 5.0), launcher=launcher)
    used = gpu_seconds(workspace)
    assert 3.0 < used <= 5.0
    assert sum(each.used * each.gpus for each in Ledger(workspace).attempts()) == pytest.approx(used, abs=0.01)
    assert outcome.complete
    assert outcome.exit_code == 0
    assert "GPU hours is used" in outcome.note
    stopped = [trial for trial in load_sweep(workspace, outcome.ref).trials if trial.state == "stopped"]
    assert stopped
    assert "GPU hours is used" in stopped[0].note
    assert is_complete(workspace, load_sweep(workspace, outcome.ref))


def test_a_larger_budget_goes_on_where_the_smaller_one_ended(workspace, write):
    first = drive(workspace, write(GRID, 3.0), launcher=launcher)
    assert gpu_seconds(workspace) <= 3.0
    second = drive(workspace, write(GRID, 60.0), launcher=launcher)
    assert second.ref == first.ref
    assert second.states == {"done": 4}
    assert set(finished(workspace).values()) == {1}
    assert set(steps_taken(workspace).values()) == {1}, "a step was taken twice: work was lost at the end of a share"


def test_a_search_of_unknown_length_ends_with_its_gpu_hours(workspace, write):
    file = write(SEARCH, 6.0, more=", trials: 50")
    outcome = drive(workspace, file, launcher=launcher)
    assert gpu_seconds(workspace) <= 6.0
    assert outcome.states.get("done", 0) >= 1
    assert sum(outcome.states.values()) < 8
    more = drive(workspace, write(SEARCH, 12.0, more=", trials: 50"), launcher=launcher)
    assert 6.0 < gpu_seconds(workspace) <= 12.0
    assert more.states.get("done", 0) > outcome.states.get("done", 0)


def test_controllers_that_are_killed_do_not_make_the_budget_larger(workspace, write):
    file = write(GRID, 4.0)
    program = fake_trials.PROGRAM.replace("fake_trials import main", "test_gpu_hours import main")
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program, str(workspace.root), str(file)])
        time.sleep(1.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    drive(workspace, file, launcher=launcher)
    assert 2.0 < gpu_seconds(workspace) <= 4.0
    assert max(finished(workspace).values()) == 1


def test_trials_of_a_dead_controller_are_settled_when_the_hours_are_gone(workspace, write):
    file = write(GRID, 4.0)
    program = fake_trials.PROGRAM.replace("fake_trials import main", "test_gpu_hours import main")
    process = subprocess.Popen([sys.executable, "-c", program, str(workspace.root), str(file)])
    deadline = time.monotonic() + 60
    while gpu_seconds(workspace) < 2.8 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    time.sleep(3.0)  # Its attempts end by themselves: they know their shares.
    ref = read_trials(next(workspace.sweeps.iterdir())).ref
    with launcher() as chosen:
        outcome = go_on(workspace, ref, chosen, stay=True)
    assert gpu_seconds(workspace) <= 4.0
    assert outcome.complete
    assert "planned" not in outcome.states


def test_work_that_does_not_look_is_ended_when_its_seconds_are_used(tmp_path):
    program = (
        "import sys, time, pathlib; from tokexp.launch.allowance import within; "
        "from tokexp.ledger.events import EventLog; folder = pathlib.Path(sys.argv[1]); "
        "log = EventLog(folder / 'events.jsonl'); log.append('started', key='k', gpus=1); "
        "guard = within(folder, 1.0, time.monotonic(), log, lambda reason: None, ends=True); "
        "guard.__enter__(); time.sleep(30)"
    )
    began = time.monotonic()
    process = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=25)
    assert process.returncode == 3
    assert time.monotonic() - began < 20
    assert seconds_used(tmp_path) <= 1.0
    assert read_events(tmp_path / "events.jsonl")[0][-1]["reason"] == "budget"


def test_an_allowance_may_be_raised_while_the_attempt_works(tmp_path):
    asked = []
    with EventLog(tmp_path / "events.jsonl") as log:
        log.append("started", key="k", gpus=1)
        with within(tmp_path, 1.0, time.monotonic(), log, asked.append, ends=False):
            raise_to(tmp_path, 30.0)
            time.sleep(1.5)
            assert asked == []
            raise_to(tmp_path, 1.2)
            time.sleep(0.4)
    assert set(asked) == {"budget"}


def main():
    """Be the controller of a sweep: workspace and file are the arguments."""
    os.environ.setdefault("FAKE_TRIALS", "{}")
    return drive(Workspace(fake_trials.Path(sys.argv[1])), sys.argv[2], launcher=launcher).exit_code
