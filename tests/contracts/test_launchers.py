"""What every launcher must do; the subclasses at the end say which launchers there are."""

import time

import pytest

from tests.launch import fake_stages
from tokexp import worker
from tokexp.launch.attempts import Tail, new_attempt
from tokexp.launch.base import CLAIMED, DONE, FAILED, STOPPED
from tokexp.launch.inline import InlineLauncher
from tokexp.launch.local import LocalLauncher
from tokexp.launch.slots import Slots
from tokexp.launch.work import stage_job
from tokexp.ledger.claims import Claim
from tokexp.ledger.outputs import is_done
from tokexp.ledger.workspace import Workspace
from tokexp.spec.resources import Resources


class LauncherContract:
    @pytest.fixture
    def launcher(self, monkeypatch):
        raise NotImplementedError

    @pytest.fixture
    def workspace(self, tmp_path):
        return Workspace(tmp_path / "workspace")

    def submit(self, launcher, workspace, node):
        return launcher.submit(new_attempt(workspace, stage_job(node, workspace, "test")), node.resources)

    def wait(self, launcher, count=1, seconds=30):
        ended, limit = [], time.monotonic() + seconds
        while len(ended) < count and time.monotonic() < limit:
            ended += launcher.poll()
            time.sleep(0.01)
        return ended

    def test_an_attempt_runs_to_its_published_output(self, launcher, workspace):
        node = fake_stages.node("a")
        handle = self.submit(launcher, workspace, node)
        assert [(end.handle, end.exit_code) for end in self.wait(launcher)] == [(handle, DONE)]
        assert is_done(workspace.output(node.kind, node.key))
        assert Tail(handle.folder).read()[0]["e"] == "started"

    def test_every_end_is_reported_once(self, launcher, workspace):
        for name in "abc":
            self.submit(launcher, workspace, fake_stages.node(name))
        ended = self.wait(launcher, 3)
        assert len({end.handle for end in ended}) == 3
        assert launcher.poll() == []

    def test_a_failure_is_an_exit_code_an_event_and_a_traceback(self, launcher, workspace):
        handle = self.submit(launcher, workspace, fake_stages.node("a", "fail=code"))
        assert self.wait(launcher)[0].exit_code == FAILED
        tail = Tail(handle.folder)
        tail.read()
        assert (tail.last["cause"], tail.last["message"]) == ("code", "RuntimeError: broken")
        assert "Traceback" in (handle.folder / "log.txt").read_text()

    def test_a_finished_stage_is_not_computed_again(self, launcher, workspace):
        node = fake_stages.node("a")
        self.submit(launcher, workspace, node)
        self.wait(launcher)
        again = self.submit(launcher, workspace, node)
        assert self.wait(launcher)[0].exit_code == DONE
        assert Tail(again.folder).read() == []

    def test_a_stage_that_another_attempt_holds_is_left_to_it(self, launcher, workspace):
        node = fake_stages.node("a")
        with Claim.take(workspace, node.key, "other-001"):
            self.submit(launcher, workspace, node)
            assert self.wait(launcher)[0].exit_code == CLAIMED
        assert not is_done(workspace.output(node.kind, node.key))

    def test_an_attempt_that_was_cancelled_before_it_began_does_no_work(self, launcher, workspace):
        node = fake_stages.node("a")
        handle = self.submit(launcher, workspace, fake_stages.node("first", "steps=20 sleep=0.05"))
        waiting = self.submit(launcher, workspace, node)
        launcher.cancel(waiting)
        ended = {end.handle: end.exit_code for end in self.wait(launcher, 2)}
        assert ended == {handle: DONE, waiting: STOPPED}
        assert not is_done(workspace.output(node.kind, node.key))

    def test_closing_forgets_what_waits(self, launcher, workspace):
        nodes = [fake_stages.node("first"), fake_stages.node("second")]
        for node in nodes:
            self.submit(launcher, workspace, node)
        launcher.close()
        assert launcher.poll() == []


class TestInline(LauncherContract):
    @pytest.fixture
    def launcher(self, monkeypatch):
        monkeypatch.setattr(worker, "_context", fake_stages.context)
        monkeypatch.setattr(worker, "_run_stage", fake_stages.run_stage)
        with InlineLauncher() as launcher:
            yield launcher


class TestLocal(LauncherContract):
    @pytest.fixture
    def launcher(self):
        with LocalLauncher(slots=Slots(cpus=1, gpus=()), command=fake_stages.COMMAND) as launcher:
            yield launcher

    def test_cancelling_a_running_attempt_lets_it_save(self, launcher, workspace):
        handle = self.submit(launcher, workspace, fake_stages.node("a", "steps=500 sleep=0.05"))
        tail = Tail(handle.folder)
        while tail.step is None:
            tail.read()
            time.sleep(0.02)
        launcher.cancel(handle)
        assert self.wait(launcher)[0].exit_code == STOPPED
        tail.read()
        assert tail.last["reason"] == "signal"

    def test_an_attempt_over_its_time_is_stopped_and_said_to_be(self, launcher, workspace):
        node = fake_stages.node("a", "steps=5000 sleep=0.05", resources=Resources(cpus=1, time="3 s"))
        handle = self.submit(launcher, workspace, node)
        [ended] = self.wait(launcher)
        assert ended.timed_out
        tail = Tail(handle.folder)
        tail.read()
        assert tail.last["reason"] == "timeout"

    def test_attempts_are_killed_by_force(self, launcher, workspace):
        handle = self.submit(launcher, workspace, fake_stages.node("a", "steps=500 sleep=0.05 deaf"))
        tail = Tail(handle.folder)
        while tail.step is None:
            tail.read()
            time.sleep(0.02)
        launcher.cancel(handle, force=True)
        assert self.wait(launcher)[0].exit_code == -9
