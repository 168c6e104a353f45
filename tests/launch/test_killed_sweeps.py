"""A controller that is killed at one chosen moment, or among others, and what the next one makes of what it left."""

import os
import subprocess
from contextlib import suppress
from dataclasses import replace
from shutil import rmtree

import pytest

from tests.launch.fake_trials import finished
from tests.launch.left_sweeps import (
    GRID,
    PRUNED,
    SEARCH,
    at_work,
    begun,
    ends,
    finetunings,
    inline,
    look,
    writer,
)
from tokexp.launch.attempts import new_attempt
from tokexp.launch.base import Handle
from tokexp.launch.display import Quiet
from tokexp.launch.driving import Asking, go_on
from tokexp.launch.gpu_hours import GpuHours
from tokexp.launch.inline import InlineLauncher
from tokexp.launch.sweeping import Driver
from tokexp.launch.trials import StaticSource
from tokexp.launch.work import Work, stage_job
from tokexp.ledger.claims import Claim
from tokexp.ledger.events import EventLog
from tokexp.ledger.sweeps import (
    TrialLog,
    is_complete,
    list_sweeps,
    load_sweep,
    read_trials,
    sweep_folder,
)
from tokexp.search.analysis import read_rows
from tokexp.spec.resources import Resources
from tokexp.spec.sweep_reading import read_sweep
from tokexp.verbs import sweeping


@pytest.fixture
def write(tmp_path, monkeypatch):
    return writer(tmp_path, monkeypatch)


def killed_at(number, workspace, file, name="append", of=EventLog, log="trials.jsonl"):
    """Carry out the sweep in a process that ends, as by kill -9, before one call of a method; say whether it came."""
    process = os.fork()
    if process == 0:
        calls, method = [], getattr(of, name)

        def counted(self, *given, **named):
            if log is None or self.path.name == log:
                calls.append(given)
                if len(calls) == number:
                    os._exit(9)
            return method(self, *given, **named)

        with suppress(BaseException):
            setattr(of, name, counted)
            inline(workspace, file)
            os._exit(0)
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("text", [GRID, SEARCH + "budget: {trials: 3, parallel: 2}\n"], ids=["grid", "space"])
def test_killed_before_any_line_of_the_trials_a_sweep_is_finished_by_the_same_command(workspace, write, text):
    file, number = write(text), 1
    while killed_at(number, workspace, file):
        number += 1
    folder = sweep_folder(workspace, list_sweeps(workspace)[0].ref)
    assert number > 2
    assert [trial.state for trial in read_trials(folder).trials] == ["done"] * 3
    assert set(ends(folder).values()) == {1}
    assert max(finished(workspace).values()) == 1


def test_killed_before_any_write_of_the_search_no_point_is_lost_or_doubled(workspace, write):
    from optuna.storages.journal import JournalFileBackend

    file, number = write(SEARCH + "seeds: [0, 1]\nbudget: {trials: 4, parallel: 2}\n"), 1
    while killed_at(number, workspace, file, "append_logs", JournalFileBackend, None):
        number += 1
    outcome = inline(workspace, file)
    folder = sweep_folder(workspace, outcome.ref)
    assert outcome.states == {"done": 4}
    assert set(ends(folder).values()) == {1}
    assert len({trial.point for trial in read_trials(folder).trials}) == 2
    assert max(finished(workspace).values()) == 1


def test_a_point_that_was_given_up_stays_so_if_its_controller_dies_between_the_ends_of_its_seeds(workspace, write):
    file = write(PRUNED + "seeds: [0, 1]\nbudget: {trials: 2}\n")
    assert killed_at(4, workspace, file)  # asked, two trials, and the end of the first is not written
    folder = sweep_folder(workspace, list_sweeps(workspace)[0].ref)
    log, (first, second) = TrialLog(folder), read_trials(folder).trials
    log.given_up(first.number)
    log.ended(first.id, "pruned")
    log.close()
    rmtree(workspace.output("downstream", second.keys["finetune"]), ignore_errors=True)
    before = finished(workspace)
    assert inline(workspace, file).states == {"pruned": 2}
    assert finished(workspace) == before
    assert set(ends(folder).values()) == {1}


def test_attempts_that_were_never_started_are_not_held_against_a_stage(workspace, write):
    file = write(GRID)
    folder, plan = begun(workspace, file)
    tokenizer = next(node for node in plan.plan.nodes if node.kind == "tokenizer")
    for _ in range(6):
        new_attempt(workspace, stage_job(tokenizer, workspace, "fake"))
    with InlineLauncher() as launcher:
        assert go_on(workspace, folder.name, launcher, stay=True).states == {"done": 3}


def test_once_its_failures_are_used_a_sweep_settles_what_was_begun_and_is_complete(workspace, write):
    folder, plan = begun(workspace, write(GRID + "budget: {failures: 1, parallel: 2}\n"), points=2)
    log, (first, second) = TrialLog(folder), read_trials(folder).trials
    log.ended(first.id, "failed", "too large")
    log.close()
    stage = finetunings(plan)[1]
    with InlineLauncher() as launcher:
        with at_work(workspace, stage):
            outcome = go_on(workspace, folder.name, launcher)
            assert not outcome.complete, "a trial is at work"
            assert second.id not in ends(folder)
        outcome = go_on(workspace, folder.name, launcher, stay=True)
    assert outcome.states == {"failed": 1, "stopped": 1}
    assert outcome.complete
    assert is_complete(workspace, load_sweep(workspace, folder.name))
    assert not any(finished(workspace)[node.key] for node in finetunings(plan))


def test_a_budget_that_was_made_smaller_holds_for_trials_that_were_begun(workspace, write):
    begun(workspace, write(GRID + "budget: {trials: 3}\n"))
    outcome = inline(workspace, write(GRID + "budget: {trials: 2}\n"))
    assert outcome.states == {"done": 2, "planned": 1}
    assert outcome.complete
    assert inline(workspace, write(GRID + "budget: {trials: 3}\n")).states == {"done": 3}


def test_what_is_at_work_is_taken_up_before_what_failed_is_tried_again(workspace, write):
    folder, plan = begun(workspace, write(GRID + "budget: {parallel: 1}\n"), points=2)
    log, (first, second) = TrialLog(folder), read_trials(folder).trials
    log.ended(first.id, "failed", "too large")
    log.close()
    with InlineLauncher() as launcher, at_work(workspace, finetunings(plan)[1]):
        Asking.now(folder).note(folder)
        driver = Driver(read_sweep(folder.parents[2] / "sweep.yaml").sweep, folder.name, workspace, StaticSource(plan),
                        launcher, Quiet())  # fmt: skip
        driver.begin()
        look(driver)
        assert list(driver._live) == [second.id]


def test_what_failed_while_a_second_controller_waited_is_not_tried_again(workspace, write):
    folder, _ = begun(workspace, write(GRID))
    first, second, _ = read_trials(folder).trials
    log = TrialLog(folder)
    log.ended(first.id, "failed")
    asking = Asking.now(folder)
    log.ended(second.id, "failed")
    log.close()
    asking.note(folder)
    assert [trial.state for trial in read_trials(folder).trials] == ["planned", "failed", "planned"]


def test_a_cancellation_while_a_second_controller_waited_holds_for_it_too(workspace, write):
    folder, _ = begun(workspace, write(GRID))
    (folder / "cancel").write_text("cancel")
    os.utime(folder / "cancel", (1, 1))
    asking = Asking.now(folder)
    asking.note(folder)
    assert not (folder / "cancel").exists(), "that was before"
    asking = Asking.now(folder)
    (folder / "cancel").write_text("cancel")
    asking.note(folder)
    with InlineLauncher() as launcher:
        outcome = go_on(workspace, folder.name, launcher, stay=True)
    assert outcome.interrupted
    assert not workspace.attempts.exists()


def test_asking_for_a_sweep_that_is_being_driven_writes_nothing_into_its_log(workspace, write, monkeypatch):
    file = write(GRID)
    folder, _ = begun(workspace, file)
    record = load_sweep(workspace, folder.name).record
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **named: None)
    first, log = read_trials(folder).trials[0], TrialLog(folder)
    sweeping._detached(workspace, record, sweeping.How(detach=True), json=True)
    log.ended(first.id, "done")
    log.close()
    assert read_trials(folder).trials[0].state == "done"


def test_an_enlarged_sweep_is_not_complete_until_it_is_so_again(workspace, write):
    outcome = inline(workspace, write(SEARCH + "budget: {trials: 1}\n"))
    assert is_complete(workspace, load_sweep(workspace, outcome.ref))
    assert killed_at(2, workspace, write(SEARCH + "budget: {trials: 2}\n"))
    assert not is_complete(workspace, load_sweep(workspace, outcome.ref))


def test_what_was_stopped_is_told_to_the_search_once_it_is_done(workspace, write):
    file = write(SEARCH + "budget: {trials: 1}\n")
    assert killed_at(3, workspace, file)  # asked and a trial, but not its end
    folder = sweep_folder(workspace, list_sweeps(workspace)[0].ref)
    log, [trial] = TrialLog(folder), read_trials(folder).trials
    log.ended(trial.id, "stopped", "cancelled")
    log.close()
    with InlineLauncher() as launcher:
        go_on(workspace, folder.name, launcher)
    [row] = read_rows(folder, read_sweep(file).sweep)
    assert row.state == "running"
    assert inline(workspace, file).states == {"done": 1}
    [row] = read_rows(folder, read_sweep(file).sweep)
    assert row.metrics == {"finetune/top1": pytest.approx(trial.values["tasks.finetune.train.lr"])}


@pytest.mark.parametrize("ours", [False, True], ids=["alone", "beside ours"])
def test_an_attempt_of_a_dead_controller_holds_its_gpu_hours_from_before_its_first_word(workspace, write, ours):
    _, plan = begun(workspace, write(GRID))
    stage = replace(finetunings(plan)[0], resources=Resources(cpus=1, gpus=1))
    folder = new_attempt(workspace, stage_job(stage, workspace, "fake", 60.0))
    work = Work(stage)
    if ours:
        work.handle = Handle(new_attempt(workspace, stage_job(stage, workspace, "fake", 5.0)))
    meter = GpuHours(100 / 3600, 1, workspace, 0.0, {stage.key: stage})

    def left():
        meter._counted = (None, 0.0)
        return meter._left([work])

    most = 100 - 2.5 - (5.0 if ours else 0.0)  # a fortieth is never shared out
    assert left() == pytest.approx(most - 60.0)
    with EventLog(folder / "events.jsonl") as log:
        assert left() == pytest.approx(most - 60.0), "its log is made, and nothing is in it"
        with Claim.take(workspace, stage.key, folder.name):
            assert left() == pytest.approx(most - 60.0)
            log.append("started", key=stage.key, gpus=1)
            assert left() == pytest.approx(most - 60.0)
            log.append("stopped", reason="budget")
        assert left() == pytest.approx(most, abs=1.0)
