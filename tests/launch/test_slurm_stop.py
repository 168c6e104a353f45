import os
import signal
import time

import pytest

from tokexp.launch.attempts import Tail
from tokexp.launch.base import EVENTS_FILE, FAILED, STOPPED
from tokexp.launch.recovery import RetryBudget
from tokexp.launch.slurm_group import Member, address, first_node
from tokexp.launch.slurm_record import ArrayRecord
from tokexp.launch.slurm_stop import JobStop, Restarts, reason_of
from tokexp.ledger.events import EventLog
from tokexp.spec.resources import Retries

MEMBER = Member("12_3", 0, 0, 0, 1, "n1")


def rules(limit=4 * 3600, **given) -> ArrayRecord:
    return ArrayRecord("fake", ("a",), limit, 90, requeue=True, retries=Retries(**given).model_dump())


def clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + seconds))


@pytest.mark.parametrize(
    ("number", "shown", "elapsed", "reason"),
    [
        (signal.SIGUSR2, {"JobState": "RUNNING", "EndTime": clock(92)}, 100, "timeout"),
        (signal.SIGUSR2, {"JobState": "RUNNING", "EndTime": clock(3000)}, 100, "preempted"),
        (signal.SIGUSR2, {"JobState": "RUNNING", "EndTime": clock(92), "PreemptTime": clock(0)}, 100, "preempted"),
        (signal.SIGUSR2, {"JobState": "RUNNING", "EndTime": clock(3000), "PreemptTime": "None"}, 14_399, "preempted"),
        (signal.SIGUSR2, {}, 100, "preempted"),
        (signal.SIGUSR2, {}, 4 * 3600 - 95, "timeout"),
        (signal.SIGTERM, {"JobState": "COMPLETING", "EndTime": clock(0)}, 100, "cancel"),
        (signal.SIGTERM, {"JobState": "CANCELLED", "EndTime": clock(0)}, 100, "cancel"),
        (signal.SIGTERM, {"JobState": "COMPLETING", "EndTime": clock(0)}, 4 * 3600, "timeout"),
        (signal.SIGTERM, {"JobState": "RUNNING", "EndTime": clock(3000)}, 100, "preempted"),
        (signal.SIGTERM, {}, 100, "signal"),
    ],
)
def test_the_reason_of_a_signal(number, shown, elapsed, reason):
    assert reason_of(number, shown, rules(), elapsed, comes_back=False) == reason


def test_a_job_that_slurm_has_put_back_already_was_preempted():
    assert reason_of(signal.SIGTERM, {"JobState": "COMPLETING"}, rules(), 100, comes_back=True) == "preempted"


def test_slurm_is_asked_for_the_reason_once_and_only_after_a_signal(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("tokexp.launch.slurm_stop.show_job", lambda job: asked.append(job) or {"JobState": "RUNNING"})
    stop = JobStop(tmp_path, MEMBER, rules())
    assert (stop.reason, stop()) == (None, False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    try:
        stop.install()
        os.kill(os.getpid(), signal.SIGUSR2)
        assert stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (stop.reason, stop.reason, asked) == ("preempted", "preempted", ["12_3"])


def test_a_stop_file_says_the_reason_itself(tmp_path, monkeypatch):
    monkeypatch.setattr("tokexp.launch.slurm_stop.show_job", lambda job: pytest.fail("SLURM was asked"))
    (tmp_path / "cancel").write_text("pruned")
    stop = JobStop(tmp_path, MEMBER, rules())
    assert stop()
    assert stop.reason == "pruned"


def write(folder, *events):
    with EventLog(folder / EVENTS_FILE) as log:
        for kind, fields in events:
            log.append(kind, **fields)


def starts(reason, *steps):
    """Events of starts that each reached a checkpoint and were stopped for a reason; None: without a word."""
    for step in steps:
        yield "started", {}
        if step is not None:
            yield "checkpoint", {"step": step, "file": "x"}
        if reason is not None:
            yield "stopped", {"reason": reason}


@pytest.fixture
def requeued(monkeypatch):
    asked = []
    monkeypatch.setattr("tokexp.launch.slurm_stop.requeue", lambda job: asked.append(job) or _Answered)
    return asked


class _Answered:
    answered = True


def test_a_job_that_gets_on_is_requeued_as_often_as_it_takes(tmp_path, requeued):
    write(tmp_path, *starts("timeout", *range(1, 30)))
    assert Restarts(tmp_path, MEMBER, rules(timeout=1)).after_stop("timeout") == STOPPED
    assert requeued == ["12_3"]


def test_a_job_that_does_not_get_on_is_given_up_and_says_so(tmp_path, requeued):
    write(tmp_path, *starts("timeout", 5, 5))
    assert Restarts(tmp_path, MEMBER, rules(timeout=2)).after_stop("timeout") == STOPPED
    write(tmp_path, *starts("timeout", 5))
    assert Restarts(tmp_path, MEMBER, rules(timeout=2)).after_stop("timeout") == FAILED
    assert requeued == ["12_3"]
    tail = Tail(tmp_path)
    tail.read()
    assert (tail.last["cause"], tail.last["message"]) == (
        "timeout", "its time was up (no progress: 3 attempts in a row got no further than step 5)",
    )  # fmt: skip


def test_a_controller_counts_the_restarts_of_a_job_as_the_job_did(tmp_path, requeued):
    write(tmp_path, *starts("preempted", 5, 5, 5, 5))
    assert Restarts(tmp_path, MEMBER, rules(preempted=2)).after_stop("preempted") == FAILED
    tail = Tail(tmp_path)
    tail.read()
    budget = RetryBudget.of(Retries(preempted=2))
    budget.count(tail.restarts)
    assert not budget.allows("preempted", tail.step)
    assert tail.last["message"].endswith(budget.exhausted("preempted"))


@pytest.mark.parametrize("reason", ["cancel", "pruned", "signal", None])
def test_what_somebody_wanted_stopped_is_not_requeued(tmp_path, requeued, reason):
    write(tmp_path, *starts(reason, 5))
    assert Restarts(tmp_path, MEMBER, rules()).after_stop(reason) == STOPPED
    assert requeued == []


def test_losses_are_counted_when_the_job_starts_again(tmp_path):
    restarts = Restarts(tmp_path, MEMBER, rules(lost=1))
    assert restarts.after_loss() is None
    write(tmp_path, *starts("preempted", 3))
    assert restarts.after_loss() is None
    write(tmp_path, *starts(None, 3))
    assert restarts.after_loss() is None
    write(tmp_path, *starts(None, 3))
    assert restarts.after_loss() == FAILED


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[1-2]", "n1"), ("gpu[03-05,9],login", "gpu03"), ("a,b[1-2]", "a"), ("rack[2]node", "rack2")],
)
def test_the_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first


def test_a_node_that_is_no_host_name_is_reached_by_its_address(tmp_path, monkeypatch):
    file = tmp_path / "scontrol"
    file.write_text("#!/bin/sh\necho NodeName=node-of-nowhere.invalid Arch=x NodeAddr=10.0.0.7 NodeHostName=x\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert address("node-of-nowhere.invalid") == "10.0.0.7"
    assert address("localhost") == "localhost"


def test_a_process_alone_finds_nothing_of_a_group(monkeypatch):
    environment = {"RANK": "3", "WORLD_SIZE": "8", "HOME": "/h"}
    MEMBER.describe(environment)
    assert environment == {"HOME": "/h"}


def test_the_port_is_one_for_all_processes_and_changes_with_every_start():
    ports = []
    for restarts in (0, 0, 1):
        environment = {}
        Member("12_3", restarts, 1, 1, 2, "localhost").describe(environment)
        ports.append(environment["MASTER_PORT"])
    assert ports[0] == ports[1] != ports[2]
