"""What clusters do to jobs, done to a small pipeline: the numbers must be those of a run that nothing happened to."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tokexp.launch.attempts import Tail, attempts_of
from tokexp.launch.base import JOB_FILE
from tokexp.launch.inline import InlineLauncher
from tokexp.launch.run import RunOutcome, run_plan
from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import read_record, read_result, verify
from tokexp.ledger.workspace import Workspace
from tokexp.plan.graph import Plan, build_plan
from tokexp.spec.reading import read_experiment

SPEC = """
schema: 1
name: small
data: {kind: digits}
tokenizer: {kind: patch_kmeans, patch_size: 2, codebook_size: 8, iterations: 3}
storage: {fraction: 0.2}
model: {kind: vit, width: 16, depth: 1, heads: 2, stem: {kind: conv2x2}}
objective:
  {kind: mtm, decoder: {depth: 1, width: 16, heads: 2}, train: {steps: 8, batch_size: 32, lr: 1.0e-3, ema: 0.9}}
tasks:
  finetune: {kind: classify, train: {steps: 8, batch_size: 32, lr: 1.0e-3, warmup: 0.1}}
resources: {default: {cpus: 1, device: cpu}}
track: {enabled: false}
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("spec") / "small.yaml"
    file.write_text(SPEC)
    return file


@pytest.fixture(scope="module")
def plan(spec) -> Plan:
    return build_plan(read_experiment(spec).experiment)


@pytest.fixture(scope="module")
def undisturbed(plan, tmp_path_factory) -> dict[str, dict]:
    workspace = Workspace(tmp_path_factory.mktemp("undisturbed"))
    assert run_plan(plan, workspace, InlineLauncher()).exit_code == 0
    return outputs(plan, workspace)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def outputs(plan: Plan, workspace: Workspace) -> dict[str, dict]:
    """Return metrics and the digest of every file of every stage, after reading all of it."""
    found = {}
    for node in plan.nodes:
        folder = workspace.output(node.kind, node.key)
        assert verify(folder) == []
        files = json.loads((folder / "manifest.json").read_text())["files"]
        found[node.name] = {"metrics": read_result(folder)["metrics"], "files": files}
    return found


def finish(plan: Plan, workspace: Workspace) -> RunOutcome:
    outcome = run_plan(plan, workspace, InlineLauncher())
    assert outcome.failures == ()
    return outcome


def in_a_child(work: Callable[[], object]) -> int:
    """Do `work` in a process that may be killed; return its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_and_die(plan: Plan, workspace: Workspace, dies: Callable[[str, dict, bool], bool]) -> int:
    """Run until `dies(type, fields, written)` is true of an event, asked before and after it is written."""
    append = EventLog.append

    def append_or_die(self: EventLog, event_type: str, **fields: object) -> int:
        for written in (False, True):
            if dies(event_type, fields, written):
                os.kill(os.getpid(), signal.SIGKILL)
            if not written:
                number = append(self, event_type, **fields)
        return number

    def work() -> None:
        EventLog.append = append_or_die
        run_plan(plan, workspace, InlineLauncher())

    return in_a_child(work)


def all_events(plan: Plan, workspace: Workspace, name: str) -> list[dict]:
    node = next(node for node in plan.nodes if node.name == name)
    return [event for folder in attempts_of(workspace, node.key) for event in Tail(folder).read()]


def nth(kind: str, number: int, *, written: bool):
    """Die at the number-th event of a kind (from 1), before or after it is written."""
    seen = [0]

    def dies(event_type: str, fields: dict, now_written: bool) -> bool:
        if event_type != kind or now_written != written:
            return False
        seen[0] += 1
        return seen[0] == number

    return dies


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize(
    ("kind", "number"), [("started", 1), ("done", 2), ("checkpoint", 3), ("checkpoint", 8), ("metrics", 8), ("done", 3)]
)
def test_kill_9_at_an_event_changes_no_number(plan, workspace, undisturbed, kind, number, written):
    assert run_and_die(plan, workspace, nth(kind, number, written=written)) == -signal.SIGKILL
    finish(plan, workspace)
    assert outputs(plan, workspace) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("written", [False, True])
def test_kill_9_at_every_event_changes_no_number(plan, tmp_path, undisturbed, written):
    for number in range(1, 200):
        workspace = Workspace(tmp_path / str(number))
        count = [0]

        def dies(event_type: str, fields: dict, now_written: bool, count=count, number=number) -> bool:
            count[0] += event_type != "progress" and now_written == written
            return count[0] == number

        if run_and_die(plan, workspace, dies) == 0:
            assert number > 40
            return
        finish(plan, workspace)
        assert outputs(plan, workspace) == undisturbed


def test_a_storm_of_kills_ends_with_the_same_numbers_and_no_stage_twice(plan, workspace, undisturbed):
    deaths = 0
    while run_and_die(plan, workspace, _after_events(6)) != 0:
        deaths += 1
        assert deaths < 40
    assert deaths >= 4
    assert outputs(plan, workspace) == undisturbed
    for node in plan.nodes:
        kinds = [event["e"] for event in all_events(plan, workspace, node.name)]
        assert kinds.count("done") <= 1
        assert "started" not in kinds[kinds.index("done") :] if "done" in kinds else True


def _after_events(limit: int):
    count = [0]

    def dies(event_type: str, fields: dict, written: bool) -> bool:
        count[0] += written and event_type != "progress"
        return count[0] >= limit

    return dies


def test_an_altered_output_is_computed_again_to_the_same_bytes(plan, workspace, undisturbed):
    finish(plan, workspace)
    node = next(node for node in plan.nodes if node.kind == "pretrain")
    weights = workspace.output(node.kind, node.key) / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert finish(plan, workspace).computed == (node.key,)
    assert outputs(plan, workspace) == undisturbed


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(plan, workspace, undisturbed):
    run_and_die(plan, workspace, nth("checkpoint", 7, written=True))
    node = next(node for node in plan.nodes if node.kind == "pretrain")
    newest = sorted(workspace.work(node.key).rglob("step-*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    finish(plan, workspace)
    assert [event["step"] for event in all_events(plan, workspace, "pretrain") if event["e"] == "resumed"] == [4]
    assert outputs(plan, workspace) == undisturbed


def test_a_full_disk_fails_the_stage_and_a_later_run_goes_on(plan, workspace, undisturbed, monkeypatch):
    save = torch.save

    def limited(state: dict, target: Path) -> None:
        """Let a checkpoint not grow beyond 2 kB, as a disk that is full at that point."""
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            save(state, target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(torch, "save", limited)
    outcome = run_plan(plan, workspace, InlineLauncher())
    [failure] = outcome.failures
    assert (failure.name, failure.cause) == ("pretrain", "disk")
    assert len(attempts_of(workspace, failure.key)) == 1
    monkeypatch.undo()
    finish(plan, workspace)
    assert outputs(plan, workspace) == undisturbed


def test_a_loss_that_is_not_finite_fails_at_once(workspace, tmp_path):
    file = tmp_path / "diverges.yaml"
    train = "{steps: 60, batch_size: 32, lr: 100.0, optimizer: {name: sgd}}"
    file.write_text(re.sub(r"objective:\n.*", f"objective: {{kind: supervised, train: {train}}}", SPEC))
    plan = build_plan(read_experiment(file).experiment)
    outcome = run_plan(plan, workspace, InlineLauncher())
    [failure] = outcome.failures
    assert (failure.name, failure.cause) == ("pretrain", "nan")
    assert len(attempts_of(workspace, failure.key)) == 1


def cli(spec: Path, workspace: Workspace) -> subprocess.Popen:
    command = [sys.executable, "-m", "tokexp", "run", str(spec), "--workspace", str(workspace.root), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [("tokenizer", "started"), ("tokens", "done"), ("pretrain", "checkpoint")])
def test_kill_9_of_the_controller_loses_nothing(plan, spec, workspace, undisturbed, name, kind):
    process = cli(spec, workspace)
    wait_for(lambda: any(event["e"] == kind for event in all_events(plan, workspace, name)))
    process.kill()
    process.communicate()
    finish(plan, workspace)
    assert outputs(plan, workspace) == undisturbed
    for node in plan.nodes:
        assert [event["e"] for event in all_events(plan, workspace, node.name)].count("done") == 1


@pytest.mark.slow
def test_two_controllers_at_once_do_every_stage_once(plan, spec, workspace, undisturbed):
    processes = [cli(spec, workspace) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers[0]["metrics"] == answers[1]["metrics"]
    assert outputs(plan, workspace) == undisturbed
    for node in plan.nodes:
        kinds = [event["e"] for event in all_events(plan, workspace, node.name)]
        assert (kinds.count("started"), kinds.count("done")) == (1, 1)


@pytest.mark.slow
def test_processes_and_the_controllers_own_process_give_the_same_numbers(plan, spec, workspace, undisturbed):
    process = cli(spec, workspace)
    answer = json.loads(process.communicate(timeout=120)[0])
    assert process.returncode == 0
    assert answer["failures"] == []
    assert outputs(plan, workspace) == undisturbed
    record = read_record(workspace.output(plan.nodes[0].kind, plan.nodes[0].key))
    assert record["attempt"] == f"{plan.nodes[0].key[:10]}-001"
    assert (workspace.attempt(record["attempt"]) / JOB_FILE).is_file()
