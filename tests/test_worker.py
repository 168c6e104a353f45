import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.launch import fake_stages
from tokexp import worker
from tokexp.launch.attempts import Tail, new_attempt
from tokexp.launch.base import CLAIMED, DONE, FAILED, STOPPED
from tokexp.launch.work import stage_job
from tokexp.ledger.claims import Claim, holder
from tokexp.ledger.outputs import is_done, read_record, read_result, verify
from tokexp.ledger.workspace import Workspace
from tokexp.worker import EventReporter, StopRequest, main, run_attempt


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
    monkeypatch.setattr(worker, "_context", fake_stages.context)
    monkeypatch.setattr(worker, "_run_stage", fake_stages.run_stage)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def attempt(workspace, node):
    folder = new_attempt(workspace, stage_job(node, workspace, "test"))
    return folder, run_attempt(folder, StopRequest(folder))


def events(folder):
    return Tail(folder).read()


def test_a_stage_leaves_its_output_its_result_and_how_they_came_about(workspace):
    node = fake_stages.node("a", "steps=3")
    folder, code = attempt(workspace, node)
    output = workspace.output(node.kind, node.key)
    assert code == DONE
    assert verify(output) == []
    assert read_result(output)["metrics"] == {"steps": 3.0}
    record = read_record(output)
    assert (record["attempt"], record["seed"], record["fingerprint"]) == (folder.name, 0, "data")
    assert "versions" in record["provenance"]


def test_events_tell_the_story_in_order(workspace):
    folder, _ = attempt(workspace, fake_stages.node("a", "steps=1"))
    found = events(folder)
    assert [event["e"] for event in found] == ["started", "checkpoint", "metrics", "progress", "done"]
    assert found[0]["pid"] == os.getpid()
    assert found[-1]["metrics"] == {"steps": 1.0}
    assert found[-1]["facts"]["flops"] > 0


def test_the_claim_is_free_afterwards_however_it_ended(workspace):
    for label in ("", "fail=code"):
        node = fake_stages.node(f"a{label}", label)
        attempt(workspace, node)
        assert holder(workspace, node.key) is None


def test_a_stage_that_is_done_is_left_alone(workspace):
    node = fake_stages.node("a")
    attempt(workspace, node)
    before = (workspace.output(node.kind, node.key) / "manifest.json").stat().st_mtime_ns
    folder, code = attempt(workspace, node)
    assert code == DONE
    assert events(folder) == []
    assert (workspace.output(node.kind, node.key) / "manifest.json").stat().st_mtime_ns == before


def test_an_output_that_was_altered_is_computed_again(workspace):
    node = fake_stages.node("a")
    attempt(workspace, node)
    file = workspace.output(node.kind, node.key) / "out.txt"
    good = file.read_text()
    file.write_text("x" * len(good))
    assert attempt(workspace, node)[1] == DONE
    assert file.read_text() == good


def test_an_altered_input_is_never_used_and_named(workspace):
    first = fake_stages.node("a")
    second = fake_stages.node("b", "", [first])
    attempt(workspace, first)
    (workspace.output(first.kind, first.key) / "out.txt").write_text("x")
    folder, code = attempt(workspace, second)
    last = events(folder)[-1]
    assert code == FAILED
    assert (last["e"], last["cause"], last["damaged"]) == ("failed", "input", [first.key])
    assert first.key[:10] in last["message"]
    assert "out.txt" in last["message"]


def test_a_missing_input_is_named(workspace):
    first = fake_stages.node("a")
    folder, _ = attempt(workspace, fake_stages.node("b", "", [first]))
    assert events(folder)[-1]["damaged"] == [first.key]


def test_a_live_claim_of_another_attempt_ends_it_with_4(workspace):
    node = fake_stages.node("a")
    with Claim.take(workspace, node.key, "other-001"):
        folder, code = attempt(workspace, node)
    assert code == CLAIMED
    assert [(event["e"], event["reason"]) for event in events(folder)] == [("stopped", "claimed")]


def test_a_stolen_claim_means_that_nothing_is_published(workspace, monkeypatch):
    node = fake_stages.node("a")
    monkeypatch.setattr(Claim, "beat", lambda self: False)
    folder, code = attempt(workspace, node)
    assert code == CLAIMED
    assert events(folder)[-1]["reason"] == "claimed"
    assert not is_done(workspace.output(node.kind, node.key))


def test_a_claim_is_kept_alive_while_a_stage_works(workspace, monkeypatch):
    beats = []
    beat = Claim.beat
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.02)
    monkeypatch.setattr(Claim, "beat", lambda self: beats.append(1) or beat(self))
    attempt(workspace, fake_stages.node("a", "steps=3 sleep=0.1"))
    assert len(beats) >= 5


def test_a_stop_file_stops_an_attempt_with_its_reason(workspace):
    node = fake_stages.node("a", "steps=50 sleep=0.02")
    folder = new_attempt(workspace, stage_job(node, workspace, "test"))
    (folder / "cancel").write_text("timeout")
    assert run_attempt(folder, StopRequest(folder)) == STOPPED
    assert events(folder)[-1]["reason"] == "timeout"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_signals_let_a_worker_save_and_the_next_attempt_goes_on_from_there(workspace, number):
    node = fake_stages.node("a", "steps=40 sleep=0.02")
    folder = new_attempt(workspace, stage_job(node, workspace, "test"))
    process = subprocess.Popen([*fake_stages.COMMAND, str(folder)])
    while not any(event["e"] == "checkpoint" for event in events(folder)):
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(10) == STOPPED
    last = events(folder)
    assert (last[-1]["e"], last[-1]["reason"]) == ("stopped", "signal")
    reached = max(event["step"] for event in last if event["e"] == "checkpoint")
    again, code = attempt(workspace, node)
    assert code == DONE
    assert next(event["step"] for event in events(again) if event["e"] == "resumed") == reached


def test_a_worker_without_a_job_says_how_it_is_used(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "job.json" in capsys.readouterr().err


class Log:
    def __init__(self):
        self.events = []

    def append(self, kind, **fields):
        self.events.append((kind, fields))


def test_progress_is_told_now_and_then_but_its_end_always():
    log = Log()
    reporter = EventReporter(log)
    for done in range(1, 10_001):
        reporter.progress(done, 10_000, "steps")
    assert len(log.events) < 20
    assert log.events[-1][1]["done"] == 10_000
    assert log.events[-1][1]["rate"] > 0


def test_an_event_that_cannot_be_written_does_not_fail_the_work(capsys):
    class Full(Log):
        def append(self, kind, **fields):
            raise OSError(errno.ENOSPC, "No space left on device")

    EventReporter(Full()).metrics(1, {"loss": 1.0})
    assert "not written" in capsys.readouterr().err


def test_starting_a_worker_loads_no_torch():
    code = "import sys, json, tokexp.worker; print(json.dumps([m for m in ('torch', 'numpy') if m in sys.modules]))"
    assert json.loads(subprocess.check_output([sys.executable, "-c", code])) == []
