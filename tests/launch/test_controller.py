import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.launch import fake_stages
from tests.launch.fake_stages import node, plan
from tokexp import worker
from tokexp.launch.attempts import Tail, attempts_of, new_attempt, request_stop
from tokexp.launch.display import Quiet
from tokexp.launch.inline import InlineLauncher
from tokexp.launch.local import LocalLauncher
from tokexp.launch.run import request_run_stop, run_plan
from tokexp.launch.slots import Slots
from tokexp.launch.work import stage_job
from tokexp.ledger.claims import Claim
from tokexp.ledger.outputs import is_done, verify
from tokexp.ledger.records import Ledger
from tokexp.ledger.runs import load_run


class Notes(Quiet):
    """Remembers states and remarks; `on` is called with (node, event)."""

    def __init__(self, on=None):
        self.states, self.said, self._on = [], [], on

    def state(self, node, state, note=""):
        self.states.append((node.name, state))

    def say(self, message):
        self.said.append(message)

    def event(self, node, event):
        if self._on is not None:
            self._on(node, event)


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.setattr(worker, "_context", fake_stages.context)
    monkeypatch.setattr(worker, "_run_stage", fake_stages.run_stage)
    return InlineLauncher()


def local(cpus=2):
    return LocalLauncher(slots=Slots(cpus, ()), command=fake_stages.COMMAND)


def chain(*labels):
    """Stages in a row, each needing the one before."""
    nodes = []
    for number, label in enumerate(labels):
        inputs = nodes[-1:] if number < 2 else [nodes[1], nodes[0]]
        nodes.append(node(f"stage{number}", label, inputs))
    return nodes


def events(workspace, key):
    return [[event["e"] for event in Tail(folder).read()] for folder in attempts_of(workspace, key)]


def test_stages_run_in_the_order_of_their_inputs(workspace, inline):
    nodes = chain("", "", "")
    outcome = run_plan(plan(*reversed(nodes)), workspace, inline)
    assert outcome.exit_code == 0
    assert outcome.computed == tuple(n.key for n in nodes)
    assert all(not verify(workspace.output(n.kind, n.key)) for n in nodes)


def test_a_second_run_does_no_work(workspace, inline):
    nodes = chain("", "")
    run_plan(plan(*nodes), workspace, inline)
    outcome = run_plan(plan(*nodes), workspace, inline)
    assert outcome.computed == ()
    assert outcome.exit_code == 0
    assert len(list(workspace.attempts.iterdir())) == 2


def test_the_run_is_recorded_before_anything_is_done(workspace, inline):
    seen = []
    display = Notes(on=lambda *_: seen.append(load_run(workspace, "fake").name))
    run_plan(plan(node("a")), workspace, inline, display)
    assert set(seen) == {"fake"}


def test_the_ledger_knows_everything_when_a_run_has_ended(workspace, inline):
    nodes = chain("", "steps=4")
    run_plan(plan(*nodes), workspace, inline)
    assert [record.state for record in Ledger(workspace).attempts()] == ["done", "done"]
    assert len(Ledger(workspace).metrics(nodes[1].key)["loss"]) == 4


def test_what_does_not_depend_on_a_failure_still_runs(workspace, inline):
    broken, fine = node("broken", "fail=code"), node("fine")
    after = node("after", "", [broken])
    outcome = run_plan(plan(broken, after, fine), workspace, inline)
    assert [outcome.states[n.key] for n in (broken, after, fine)] == ["failed", "blocked", "done"]
    [failure] = outcome.failures
    assert (failure.name, failure.cause, failure.message) == ("broken", "code", "RuntimeError: broken")
    assert "Traceback" in Path(failure.log).read_text()
    assert outcome.exit_code == 1


@pytest.mark.parametrize(("cause", "tries"), [("code", 1), ("nan", 1), ("disk", 1), ("input", 1), ("memory", 2)])
def test_a_failure_is_tried_again_as_often_as_its_cause_allows(workspace, inline, cause, tries):
    stage = node("a", f"fail={cause}")
    [failure] = run_plan(plan(stage), workspace, inline).failures
    assert failure.cause == cause
    assert len(attempts_of(workspace, stage.key)) == tries


def test_a_worker_that_is_killed_is_started_again_and_goes_on(workspace):
    stage = node("a", "steps=3 die")
    with local() as launcher:
        outcome = run_plan(plan(stage), workspace, launcher)
    assert outcome.exit_code == 0
    assert len(events(workspace, stage.key)) == 2


def test_a_worker_that_always_dies_is_given_up(workspace):
    stage = node("a", "die=always")
    with local() as launcher:
        [failure] = run_plan(plan(stage), workspace, launcher).failures
    assert failure.cause == "lost"
    assert "SIGKILL" in failure.message
    assert len(attempts_of(workspace, stage.key)) == 4


def test_a_worker_that_dies_but_gets_on_reaches_the_end(workspace):
    stage = node("a", "steps=6 die=step")
    with local() as launcher:
        assert run_plan(plan(stage), workspace, launcher).exit_code == 0
    assert len(attempts_of(workspace, stage.key)) == 6


def test_a_damaged_output_is_said_set_aside_and_computed_again(workspace, inline):
    nodes, display = chain("", ""), Notes()
    run_plan(plan(*nodes), workspace, inline)
    (workspace.output("tokenizer", nodes[0].key) / "out.txt").write_text("altered")
    outcome = run_plan(plan(*nodes), workspace, inline, display)
    assert outcome.computed == (nodes[0].key,)
    assert any("stage0 is damaged (out.txt" in text for text in display.said)
    assert not verify(workspace.output("tokenizer", nodes[0].key))
    assert len(list(workspace.damaged.iterdir())) == 1


def test_an_input_that_is_damaged_while_the_run_goes_on_is_computed_again(workspace, inline):
    nodes = chain("", "")

    def damage(stage, event):
        if stage.name == "stage0" and event["e"] == "done" and len(attempts_of(workspace, stage.key)) == 1:
            (workspace.output("tokenizer", stage.key) / "out.txt").write_text("altered")

    outcome = run_plan(plan(*nodes), workspace, inline, Notes(on=damage))
    assert outcome.exit_code == 0
    assert outcome.computed == (nodes[0].key, nodes[0].key, nodes[1].key)


def test_a_stage_that_runs_elsewhere_is_waited_for_and_followed(workspace, inline):
    stage, seen = node("a", "steps=20 sleep=0.05"), []
    other = new_attempt(workspace, stage_job(stage, workspace, "other"))
    process = subprocess.Popen([*fake_stages.COMMAND, str(other)])
    while not events(workspace, stage.key)[0]:
        time.sleep(0.01)
    display = Notes(on=lambda _, event: seen.append(event["e"]))
    outcome = run_plan(plan(stage), workspace, inline, display)
    assert process.wait() == 0
    assert outcome.exit_code == 0
    assert outcome.computed == ()
    assert (seen[0], seen[-1]) == ("started", "done")
    assert len(attempts_of(workspace, stage.key)) == 1


def test_a_stage_whose_holder_gives_up_is_taken_over(workspace, inline):
    stage = node("a")
    claim = Claim.take(workspace, stage.key, "0000000000-001")
    timer = threading.Timer(0.5, claim.release)
    timer.start()
    display = Notes()
    assert run_plan(plan(stage), workspace, inline, display).exit_code == 0
    assert [state for _, state in display.states] == ["elsewhere", "to do", "queued", "done"]


def test_a_cancelled_attempt_is_not_started_again(workspace):
    stage = node("a", "steps=500 sleep=0.05")
    display = Notes(on=lambda _, event: event["e"] == "checkpoint" and request_stop(workspace, stage.key))
    with local() as launcher:
        [failure] = run_plan(plan(stage), workspace, launcher, display).failures
    assert failure.cause == "cancel"
    assert len(attempts_of(workspace, stage.key)) == 1


def test_a_cancelled_run_starts_nothing_more(workspace):
    nodes = [node(name, "steps=500 sleep=0.05") for name in "abc"]
    display = Notes(
        on=lambda _, event: event["e"] == "checkpoint" and request_run_stop(workspace, load_run(workspace, "fake").ref)
    )
    with local(cpus=1) as launcher:
        outcome = run_plan(plan(*nodes), workspace, launcher, display)
    assert outcome.interrupted
    assert sum(len(kinds) > 0 for n in nodes for kinds in events(workspace, n.key)) == 1


CONTROLLER = """
import sys
from tests.launch import fake_stages
from tests.launch.test_controller import local, plan, node
from tokexp.launch.run import run_plan
from pathlib import Path
from tokexp.ledger.workspace import Workspace
nodes = [node(name, sys.argv[2]) for name in sys.argv[3:]]
with local() as launcher:
    sys.exit(run_plan(plan(*nodes), Workspace(Path(sys.argv[1])), launcher).exit_code)
"""


def controller(workspace, label, *names):
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", CONTROLLER, str(workspace.root), label, *names]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": root}, start_new_session=True)


def wait_for_checkpoint(workspace, key, seconds=20):
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if any("checkpoint" in kinds for kinds in events(workspace, key)):
            return
        time.sleep(0.02)
    raise AssertionError("no checkpoint")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_lets_attempts_save_and_ends_with_130(workspace, number):
    stage = node("a", "steps=500 sleep=0.05")
    process = controller(workspace, stage.label, "a")
    wait_for_checkpoint(workspace, stage.key)
    process.send_signal(number)
    assert process.wait(20) == 130
    assert events(workspace, stage.key)[0][-1] == "stopped"


def test_an_attempt_that_does_not_look_is_ended_by_a_second_interrupt_and_was_not_lost(workspace):
    stage, notes = node("a", "steps=1 sleep=60"), []

    class Interrupted(Quiet):
        def state(self, node, state, note=""):
            notes.append((state, note))

        def event(self, node, event):
            if event["e"] == "started":
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

    with local() as launcher:
        assert run_plan(plan(stage), workspace, launcher, Interrupted()).interrupted
    assert notes[-1] == ("stopped", "it was interrupted; it goes on from what it saved")


def test_when_the_controller_is_killed_its_workers_finish_and_nothing_is_done_twice(workspace, inline):
    stage = node("a", "steps=30 sleep=0.05")
    process = controller(workspace, stage.label, "a")
    wait_for_checkpoint(workspace, stage.key)
    process.kill()
    process.wait()
    outcome = run_plan(plan(stage), workspace, inline)
    assert outcome.exit_code == 0
    assert [kinds.count("done") for kinds in events(workspace, stage.key)] == [1]


def test_two_controllers_at_once_do_every_stage_once(workspace):
    names = [f"s{number}" for number in range(6)]
    processes = [controller(workspace, "steps=4 sleep=0.02", *names) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    for name in names:
        stage = node(name)
        assert is_done(workspace.output(stage.kind, stage.key))
        kinds = [kind for attempt in events(workspace, stage.key) for kind in attempt]
        assert (kinds.count("started"), kinds.count("done")) == (1, 1)
