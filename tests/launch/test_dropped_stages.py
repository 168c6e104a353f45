"""Stages that a search gives up: who is stopped, who is waited for, and who goes on all the same."""

import pytest

from tests.launch.fake_trials import finished
from tests.launch.left_sweeps import GRID, PRUNED, at_work, begun, finetunings, look, upstream, writer
from tokexp import worker
from tokexp.launch.attempts import attempts_of, new_attempt, request_stop
from tokexp.launch.base import STOPPED, Ended
from tokexp.launch.controller import Controller
from tokexp.launch.display import Quiet
from tokexp.launch.inline import InlineLauncher
from tokexp.launch.sweeping import Driver
from tokexp.launch.trials import StaticSource
from tokexp.launch.work import stage_job
from tokexp.ledger.sweeps import (
    read_trials,
)
from tokexp.search.study import Search
from tokexp.spec.sweep_reading import read_sweep


@pytest.fixture
def write(tmp_path, monkeypatch):
    return writer(tmp_path, monkeypatch)


def test_that_a_point_is_given_up_is_written_down_before_anything_is_stopped(workspace, write):
    file = write(PRUNED + "budget: {trials: 1}\n")
    folder, plan = begun(workspace, file)
    upstream(workspace, file, plan)
    [stage] = finetunings(plan)
    read = read_sweep(file)
    Search(folder, read.sweep).ask()
    with at_work(workspace, stage) as (_, log), InlineLauncher() as launcher:
        driver = Driver(read.sweep, folder.name, workspace, Given(plan), launcher, Quiet())
        driver.begin()
        look(driver)
        log.append("metrics", step=0, values={"loss": 100.0})
        seen = []
        driver.controller.drop = lambda key, why: seen.append(read_trials(folder).given_up)
        look(driver)
        assert seen
        assert set(seen) == {frozenset({0})}


class Given:
    """Points of a plan; gives up whatever reports."""

    total, exhausted = None, "all of its points were tried"

    def __init__(self, plan):
        self.points = list(StaticSource(plan)._points.values())
        self.told = []

    def next(self):
        return None

    def again(self, trial):
        return self.points[trial.number]

    def report(self, number, step, value):
        return True

    def tell(self, verdict):
        self.told.append(verdict.state)


def test_a_pruner_stops_workers_that_outlived_their_controller_and_waits_for_them(workspace, write):
    file = write(PRUNED + "budget: {trials: 1}\n")
    folder, plan = begun(workspace, file)
    upstream(workspace, file, plan)
    [stage] = finetunings(plan)
    source = Given(plan)
    with InlineLauncher() as launcher:
        driver = Driver(read_sweep(file).sweep, folder.name, workspace, source, launcher, Quiet())
        driver.begin()
        with at_work(workspace, stage) as (attempt, log):
            look(driver)
            log.append("metrics", step=0, values={"loss": 100.0})
            look(driver)
            assert (attempt / "cancel").read_text() == "pruned"
            assert source.told == []
            log.append("stopped", reason="pruned")
        look(driver)
        assert source.told == ["pruned"]
        assert driver.over()
    assert len(attempts_of(workspace, stage.key)) == 1


def test_a_stage_that_another_search_gave_up_is_carried_on(workspace, write):
    file = write(GRID)
    _, plan = begun(workspace, file)
    upstream(workspace, file, plan)
    stage = finetunings(plan)[0]
    controller = Controller("fake", workspace, InlineLauncher(), Quiet(), workspace.root / "cancel")
    controller.add(each for each in plan.plan.nodes if each.kind in ("tokenizer", "tokens") or each is stage)
    with at_work(workspace, stage) as (_, log):
        controller.round()
        assert controller.works[stage.key].state == "elsewhere"
        log.append("stopped", reason="pruned")
    while not controller.over():
        controller.round()
    assert controller.works[stage.key].state == "done"


class Mute(InlineLauncher):
    """Attempts that die without a word as soon as somebody looks."""

    def poll(self):
        ended = [Ended(handle, -9) for handle in self._queue]
        self._queue.clear()
        return ended

    def cancel(self, handle, *, force=False):
        pass


def test_a_stage_that_nobody_wants_is_not_started_again_when_its_worker_dies(workspace, write):
    _, plan = begun(workspace, write(GRID))
    stage = next(node for node in plan.plan.nodes if node.kind == "tokenizer")
    controller = Controller("fake", workspace, Mute(), Quiet(), workspace.root / "cancel")
    controller.add([stage])
    controller.round()
    controller.drop(stage.key, "pruned")
    controller.round()
    assert controller.works[stage.key].state == "stopped"
    assert len(attempts_of(workspace, stage.key)) == 1


def test_a_stage_that_was_dropped_is_carried_out_for_whoever_wants_it_later(workspace, write):
    _, plan = begun(workspace, write(GRID))
    stage = next(node for node in plan.plan.nodes if node.kind == "tokenizer")
    controller = Controller("fake", workspace, InlineLauncher(), Quiet(), workspace.root / "cancel")
    controller.add([stage])
    controller.drop(stage.key, "pruned")
    assert controller.works[stage.key].state == "stopped"
    controller.add([stage])
    while not controller.over():
        controller.round()
    assert controller.works[stage.key].state == "done"


def test_an_attempt_that_is_about_to_begin_finds_that_its_stage_was_cancelled(workspace, write):
    _, plan = begun(workspace, write(GRID))
    stage = next(node for node in plan.plan.nodes if node.kind == "tokenizer")
    waiting = new_attempt(workspace, stage_job(stage, workspace, "fake"))
    with at_work(workspace, stage) as (working, _):
        assert request_stop(workspace, stage.key) == working.name
    assert (working / "cancel").read_text() == "cancel"
    assert worker.run_attempt(waiting, worker.StopRequest(waiting)) == STOPPED
    assert finished(workspace) == {}
