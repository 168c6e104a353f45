import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.contracts.test_launchers import LauncherContract
from tests.launch import fake_node, fake_stages
from tests.launch.fake_slurm import FakeSlurm
from tests.launch.slurm_attempts import begun, job_of, kinds, submit, until, wait
from tests.launch.test_slurm_submission import tasks_of
from tokexp.launch.attempts import Tail, new_attempt
from tokexp.launch.base import DONE, FAILED, STOP_FILE, STOPPED, Handle
from tokexp.launch.slurm import SlurmLauncher, submit_driver
from tokexp.launch.slurm_driver import cancel_driver
from tokexp.launch.work import past_end, stage_job
from tokexp.ledger.claims import Claim
from tokexp.ledger.outputs import is_done
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.resources import Resources, Retries


@pytest.fixture
def python(tmp_path):
    file = tmp_path / "python"
    file.write_text(f'#!/bin/sh\nexec {fake_node.COMMAND} "$@"\n')
    file.chmod(0o755)
    return file


@pytest.fixture
def slurm(tmp_path, monkeypatch, python):
    fake = FakeSlurm(tmp_path / "slurm", cpus=1)
    monkeypatch.setenv("PATH", f"{fake.bin}:{os.environ['PATH']}")
    monkeypatch.setattr("tokexp.launch.slurm.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("tokexp.launch.slurm.LOST_SECONDS", 0.1)
    yield fake
    fake.end()


@pytest.fixture
def cluster(python):
    return ClusterSpec.model_validate({"schema": 1, "name": "fake", "python": str(python), "poll": 1})


@pytest.fixture
def launcher(cluster, workspace, slurm):
    with SlurmLauncher(cluster, workspace, "test") as launcher:
        yield launcher


LONG = "steps=400 sleep=0.05"
SHORT = "steps=10 sleep=0.1"


class TestContract(LauncherContract):
    @pytest.fixture
    def launcher(self, launcher):
        return launcher

    @pytest.fixture
    def workspace(self, workspace):
        return workspace

    def test_a_stage_that_another_attempt_holds_is_left_to_it(self, launcher, workspace):
        node = fake_stages.node("a")
        claim = Claim.take(workspace, node.key, "other-001")
        handle = self.submit(launcher, workspace, node)
        until(lambda: (handle.folder / "log.txt").exists())
        assert self.wait(launcher, seconds=1) == []
        assert not is_done(workspace.output(node.kind, node.key))
        claim.release()
        assert self.wait(launcher)[0].exit_code == DONE
        assert kinds(handle) == ["started", "done"]


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_warning_saves_requeues_and_goes_on(launcher, workspace, slurm, number):
    [handle] = submit(launcher, workspace, fake_stages.node("a", SHORT))
    begun(handle)
    slurm.signal(job_of(handle), number)
    assert wait(launcher)[handle].exit_code == DONE
    assert kinds(handle) == ["started", "stopped preempted", "started", "resumed", "done"]
    assert Tail(handle.folder).read()[-1]["facts"]["resumed"] >= 1
    assert slurm[job_of(handle)]["restarts"] == 1


def test_near_the_time_limit_the_reason_is_the_limit(launcher, workspace, slurm):
    node = fake_stages.node("a", SHORT, resources=Resources(cpus=1, time=60))
    [handle] = submit(launcher, workspace, node)
    begun(handle)
    slurm.signal(job_of(handle), signal.SIGUSR2)
    assert wait(launcher)[handle].exit_code == DONE
    assert kinds(handle)[:2] == ["started", "stopped timeout"]


def test_a_lost_machine_costs_what_came_after_the_newest_checkpoint(launcher, workspace, slurm):
    [handle] = submit(launcher, workspace, fake_stages.node("a", SHORT))
    begun(handle, 3)
    slurm.lose(job_of(handle))
    assert wait(launcher)[handle].exit_code == DONE
    assert kinds(handle) == ["started", "started", "resumed", "done"]
    tail = Tail(handle.folder)
    tail.read()
    assert [cause for cause, _ in tail.restarts] == ["lost"]


def test_a_job_that_is_lost_at_the_same_place_again_and_again_is_given_up(launcher, workspace, slurm):
    node = fake_stages.node("a", "steps=2 sleep=60", resources=Resources(cpus=1, retries=Retries(lost=2)))
    [handle] = submit(launcher, workspace, node)
    for starts in (1, 2, 3):
        until(lambda starts=starts: kinds(handle).count("started") == starts)
        until(lambda: slurm[job_of(handle)]["tasks"])
        slurm.lose(job_of(handle))
    assert wait(launcher)[handle].exit_code == FAILED
    cause, message = past_end(Tail(handle.folder))
    assert cause == "lost"
    assert message == "its machine or process was lost (3 attempts in a row ended without a checkpoint)"


def test_a_warned_job_without_requeue_ends(cluster, workspace, slurm):
    with SlurmLauncher(cluster.model_copy(update={"requeue": False}), workspace, "test") as launcher:
        [handle] = submit(launcher, workspace, fake_stages.node("a", LONG))
        begun(handle)
        slurm.signal(job_of(handle), signal.SIGUSR2)
        end = wait(launcher)[handle]
    assert (end.exit_code, end.cause) == (STOPPED, None)
    assert past_end(Tail(handle.folder))[0] == "preempted"


def test_children_wait_for_a_parent_that_was_requeued(launcher, workspace, slurm):
    parent = fake_stages.node("parent", SHORT)
    first, second = submit(launcher, workspace, parent, fake_stages.node("child", inputs=[parent]))
    begun(first)
    slurm.signal(job_of(first), signal.SIGUSR2)
    ends = wait(launcher, 2)
    assert [ends[each].exit_code for each in (first, second)] == [DONE, DONE]
    assert list(ends) == [first, second]


@pytest.mark.parametrize("kill", [True, False])
def test_what_needs_a_failure_is_reported_and_leaves_the_queue(cluster, workspace, slurm, kill):
    parents = [fake_stages.node(f"p{n}", "fail=code" if n == 1 else "") for n in range(2)]
    children = [fake_stages.node(f"c{n}", inputs=[parents[n]]) for n in range(2)]
    profile = cluster.model_copy(update={"kill_invalid_dependency": kill})
    with SlurmLauncher(profile, workspace, "test") as launcher:
        handles = submit(launcher, workspace, *parents, *children)
        ends = wait(launcher, 4)
    assert [(ends[each].exit_code, ends[each].cause) for each in handles] == [
        (DONE, None), (FAILED, None), (DONE, None), (STOPPED, "dependency"),
    ]  # fmt: skip
    assert not [job for job in slurm.jobs().values() if job["state"] in ("PENDING", "RUNNING")]


def test_what_needs_something_that_failed_long_ago_is_not_submitted(launcher, workspace, slurm):
    parent = fake_stages.node("parent", "fail=code")
    [first] = submit(launcher, workspace, parent)
    wait(launcher)
    child = fake_stages.node("child", inputs=[parent])
    [task] = tasks_of([child], workspace, launcher._cluster)
    [second] = launcher.submit_many([type(task)(task.folder, task.resources, task.kind, task.name, (first.folder,))])
    assert wait(launcher)[second].cause == "dependency"
    assert len(slurm.jobs()) == 1


def test_a_later_submission_waits_for_what_runs_and_not_for_what_is_done(launcher, workspace, slurm):
    done, running = fake_stages.node("done"), fake_stages.node("running", LONG)
    first, second = submit(launcher, workspace, done, running)
    begun(second)
    child = fake_stages.node("child", inputs=[done, running])
    [task] = tasks_of([child], workspace, launcher._cluster)
    after = (first.folder, second.folder)
    [third] = launcher.submit_many([type(task)(task.folder, task.resources, task.kind, task.name, after)])
    assert slurm[job_of(third)]["needs"] == [f"afterok:{job_of(second)}"]


def test_cancelling_lets_a_running_attempt_save_and_drops_a_waiting_one(launcher, workspace, slurm):
    running, waiting = submit(launcher, workspace, fake_stages.node("a", LONG), fake_stages.node("b"))
    begun(running)
    launcher.cancel(running)
    launcher.cancel(waiting)
    ends = wait(launcher, 2)
    assert {end.exit_code for end in ends.values()} == {STOPPED}
    assert kinds(running) == ["started", "stopped cancel"]
    assert ends[waiting].cause == "cancel"
    assert kinds(waiting) == []
    assert {job["state"] for job in slurm.jobs().values()} == {"FAILED", "CANCELLED"}


def test_force_ends_an_attempt_that_does_not_listen(launcher, workspace, slurm):
    [handle] = submit(launcher, workspace, fake_stages.node("a", "steps=400 sleep=0.05 deaf"))
    begun(handle)
    launcher.cancel(handle, force=True)
    end = wait(launcher, seconds=5)[handle]
    assert (end.exit_code, end.cause) == (STOPPED, "cancel")


def test_a_pruned_attempt_is_said_to_be_pruned(launcher, workspace, slurm):
    running, waiting = submit(launcher, workspace, fake_stages.node("a", LONG), fake_stages.node("b"))
    begun(running)
    for handle in (running, waiting):
        (handle.folder / STOP_FILE).write_text("pruned")
        launcher.cancel(handle)
    ends = wait(launcher, 2)
    assert kinds(running) == ["started", "stopped pruned"]
    assert ends[waiting].cause == "pruned"


def test_a_person_s_scancel_is_a_cancellation(launcher, workspace, slurm):
    [handle] = submit(launcher, workspace, fake_stages.node("a", "steps=400 sleep=0.05 deaf"))
    begun(handle)
    slurm.edit(job_of(handle), state="CANCELLED")
    assert wait(launcher)[handle].cause == "cancel"


def test_a_setup_that_fails_says_which_line_did(cluster, workspace, slurm):
    with SlurmLauncher(cluster.model_copy(update={"setup": ("nosuchcommand 1",)}), workspace, "test") as launcher:
        [handle] = submit(launcher, workspace, fake_stages.node("a"))
        end = wait(launcher)[handle]
    assert (end.exit_code, end.cause) == (1, "code")
    assert "before the stage began: tokexp: a setup line failed: nosuchcommand 1" in end.message
    assert past_end(Tail(handle.folder)) == ("code", end.message)


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("TIMEOUT", "timeout"), ("PREEMPTED", "preempted"), ("NODE_FAIL", "lost"), ("OUT_OF_MEMORY", "memory"),
        ("BOOT_FAIL", "lost"), ("DEADLINE", "timeout"),
    ],
)  # fmt: skip
def test_each_end_has_its_cause(launcher, workspace, slurm, state, cause):
    (slurm.folder / "closed").touch()
    [handle] = submit(launcher, workspace, fake_stages.node("a"))
    slurm.edit(job_of(handle), state=state)
    assert wait(launcher)[handle].cause == cause
    assert past_end(Tail(handle.folder))[0] == cause


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        ("slurmstepd: error: StepId=1.0 exceeded memory limit (307482624 > 200278016), being killed", "0:9", "memory"),
        ("srun: error: Unable to create step for job 1: Job/step already completing or completed", "1:0", "lost"),
    ],
)
def test_the_log_tells_causes_that_slurm_has_no_state_for(launcher, workspace, slurm, words, code, cause):
    (slurm.folder / "closed").touch()
    [handle] = submit(launcher, workspace, fake_stages.node("a"))
    folder = Path(json.loads((handle.folder / "slurm.json").read_text())["array"])
    (folder / f"{job_of(handle)}_0_log.out").write_text(f"{words}\n")
    slurm.edit(job_of(handle), state="FAILED", exit=code)
    assert wait(launcher)[handle].cause == cause


def test_a_job_that_nobody_knows_any_more_is_lost_unless_it_gives_signs_of_life(launcher, workspace, slurm):
    (slurm.folder / "closed").touch()
    node = fake_stages.node("a")
    [handle] = submit(launcher, workspace, node)
    slurm.forget(job_of(handle))
    with Claim.take(workspace, node.key, handle.attempt):
        assert wait(launcher, seconds=1) == {}
    assert wait(launcher)[handle].cause == "lost"


def test_while_slurm_does_not_answer_results_are_seen_and_nothing_is_given_up(launcher, workspace, slurm):
    said = launcher._warn = []
    launcher._warn = said.append
    quick, slow = submit(launcher, workspace, fake_stages.node("a"), fake_stages.node("b", LONG))
    (slurm.folder / "no_accounting").touch()
    until(lambda: is_done(workspace.output("tokenizer", fake_stages.node("a").key)))
    begun(slow)
    (slurm.folder / "deaf").touch()
    assert list(wait(launcher, 2, seconds=2)) == [quick]
    assert len(said) == 1
    assert "SLURM does not answer" in said[0]


def test_a_process_that_comes_later_takes_up_what_is_there(launcher, cluster, workspace, slurm):
    handles = submit(launcher, workspace, fake_stages.node("a", SHORT), fake_stages.node("b"))
    launcher.close()
    calls = len(slurm.calls("squeue"))
    with SlurmLauncher(cluster, workspace, "test") as later:
        assert [later.adopt(handle.folder) for handle in handles] == handles
        assert len(slurm.calls("squeue")) == calls + 1
        assert {end.exit_code for end in wait(later, 2).values()} == {DONE}
    with SlurmLauncher(cluster, workspace, "test") as last:
        assert [last.adopt(handle.folder) for handle in handles] == [None, None]


def test_what_ended_while_nobody_looked_leaves_its_cause(launcher, cluster, workspace, slurm, monkeypatch):
    monkeypatch.setattr("tokexp.launch.slurm.LOOK_SECONDS", 60)
    (slurm.folder / "closed").touch()
    handles = submit(launcher, workspace, fake_stages.node("a"), fake_stages.node("b"))
    slurm.edit(job_of(handles[0]), state="OUT_OF_MEMORY")
    slurm.edit(job_of(handles[1]), state="NODE_FAIL")
    (slurm.folder / "forgetful").touch()
    with SlurmLauncher(cluster, workspace, "test") as later:
        assert [later.adopt(handle.folder) for handle in handles] == [None, None]
    assert [past_end(Tail(handle.folder))[0] for handle in handles] == ["memory", "lost"]
    assert len(slurm.calls("sacct")) == 1


def test_an_attempt_that_was_never_submitted_is_not_adopted(launcher, workspace, slurm):
    folder = new_attempt(workspace, stage_job(fake_stages.node("a"), workspace, "test"))
    assert launcher.adopt(folder) is None


def test_a_job_whose_submission_was_cut_short_is_found_again(launcher, cluster, workspace, slurm):
    (slurm.folder / "closed").touch()
    handles = submit(launcher, workspace, fake_stages.node("a"), fake_stages.node("b"))
    jobs = [job_of(handle) for handle in handles]
    for handle in handles:
        (handle.folder / "slurm.json").unlink()
    [file] = (workspace.root / "slurm").rglob("array.json")
    record = json.loads(file.read_text())
    file.write_text(json.dumps({**record, "job": None, "created": time.time() - 100}))
    with SlurmLauncher(cluster, workspace, "test") as later:
        assert [later.adopt(handle.folder) for handle in handles] == handles
    assert [job_of(handle) for handle in handles] == jobs


def test_a_result_that_submitit_was_writing_does_not_stop_the_next_start(launcher, workspace, slurm):
    (slurm.folder / "closed").touch()
    [handle] = submit(launcher, workspace, fake_stages.node("a"))
    folder = Path(json.loads((handle.folder / "slurm.json").read_text())["array"])
    (folder / f"{job_of(handle)}_0_result.pkl.save_tmp").touch()
    slurm.start()
    assert wait(launcher)[handle].exit_code == DONE
    assert slurm[job_of(handle)]["state"] == "COMPLETED"


def test_several_processes_of_a_job_find_one_another(launcher, workspace, slurm):
    node = fake_stages.node("a", "environment", resources=Resources(cpus=1, gpus=2))
    [handle] = submit(launcher, workspace, node)
    assert wait(launcher)[handle].exit_code == DONE
    lines = [line for line in (handle.folder / "log.txt").read_text().splitlines() if line.startswith("{")]
    seen = sorted((json.loads(line) for line in lines), key=lambda member: member["RANK"])
    assert [(member["RANK"], member["LOCAL_RANK"], member["WORLD_SIZE"]) for member in seen] == [
        ("0", "0", "2"), ("1", "1", "2"),
    ]  # fmt: skip
    assert len({(member["MASTER_ADDR"], member["MASTER_PORT"]) for member in seen}) == 1


def test_the_log_of_a_stage_is_the_attempt_s(launcher, workspace, slurm):
    [handle] = submit(launcher, workspace, fake_stages.node("a", "environment"))
    wait(launcher)
    text = (handle.folder / "log.txt").read_text()
    assert json.loads(text) == {}
    assert "submitit" not in text


def test_a_sweep_has_one_driver_at_a_time_and_a_waiting_one_is_cancelled(cluster, workspace, slurm):
    (slurm.folder / "closed").touch()
    job = submit_driver(cluster, workspace, "sweep-1")
    assert submit_driver(cluster, workspace, "sweep-1") == job
    cancel_driver(workspace, "sweep-1")
    assert slurm[job]["state"] == "CANCELLED"
    assert submit_driver(cluster, workspace, "sweep-1") != job
    cancel_driver(workspace, "sweep-2")


def test_closing_leaves_jobs_to_slurm(cluster, workspace, slurm):
    with SlurmLauncher(cluster, workspace, "test") as launcher:
        [handle] = submit(launcher, workspace, fake_stages.node("a", SHORT))
    until(lambda: kinds(handle)[-1:] == ["done"])
    assert Handle(handle.folder) == handle
