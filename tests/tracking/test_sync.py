"""Syncing into a real SQLite store of MLflow: complete, exactly once, and harmless when it fails."""

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.recorded import (
    finish_stage,
    key_of,
    log_steps,
    metrics_of,
    recorded_run,
    run_all,
    start_attempt,
    workspace_at,
)
from tests.tracking.seen import all_runs, by_name, client
from tokexp.errors import InputError
from tokexp.ledger.runs import RunRecord
from tokexp.ledger.workspace import Workspace
from tokexp.tracking import sync


@pytest.fixture
def finished(workspace: Workspace) -> tuple[Workspace, RunRecord]:
    record = recorded_run(workspace)
    run_all(workspace, record)
    return workspace, record


def test_a_finished_run_is_shown_whole(finished: tuple[Workspace, RunRecord]) -> None:
    workspace, record = finished
    report = sync(workspace, record.ref)
    assert (report.runs, report.stages, report.unreachable, report.problems) == (1, len(record.nodes), [], [])
    runs = by_name(workspace)
    parent, stage = runs[record.ref], runs["pretrain, seed 1"]
    assert len(runs) == 1 + len(record.nodes)
    assert parent.info.status == stage.info.status == "FINISHED"
    assert stage.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert stage.data.tags["tokexp.key"] == key_of("pretrain", 1)
    assert stage.data.tags["tokexp.kind"] == "pretrain"
    assert stage.data.tags["tokexp.seed"] == "1"
    assert stage.data.tags["tokexp.git"] == "c0ffee-dirty"
    assert stage.data.tags["tokexp.spec_hash"] == record.spec_hash
    assert stage.data.params["objective.train.lr"] == "0.001"
    assert parent.data.params["data.kind"] == "digits"
    assert parent.data.metrics["finetune/top1"] == pytest.approx((0.9 + 0.92) / 2)
    assert parent.data.metrics["finetune/noise/top1"] == pytest.approx((0.5 + 0.52) / 2)
    assert parent.data.metrics["storage/bytes_per_image"] == pytest.approx(17339 / 1257)


def test_the_curve_has_the_steps_and_times_of_the_events(finished: tuple[Workspace, RunRecord]) -> None:
    workspace, _ = finished
    before = time.time() * 1000
    sync(workspace)
    run = by_name(workspace)["pretrain, seed 0"]
    history = client(workspace).get_metric_history(run.info.run_id, "loss")
    assert sorted(point.step for point in history) == list(range(1, 41))
    assert all(before - 60_000 < point.timestamp < before for point in history)
    assert run.data.metrics["final/loss"] == 0.5


def test_the_spec_is_kept_as_asked_and_as_resolved(finished: tuple[Workspace, RunRecord]) -> None:
    workspace, record = finished
    sync(workspace)
    found, run = client(workspace), by_name(workspace)[record.ref]
    assert {item.path for item in found.list_artifacts(run.info.run_id)} == {"spec.yaml", "resolved.yaml", "figures"}
    figure = next((workspace.root / "mlartifacts").rglob("loss.svg")).read_text()
    assert figure.startswith("<svg")
    assert "pretrain" in figure
    stored = list((workspace.root / "mlartifacts").rglob("spec.yaml"))
    assert [path.read_text() for path in stored] == [record.spec_text]


def test_syncing_twice_shows_everything_once(finished: tuple[Workspace, RunRecord]) -> None:
    workspace, record = finished
    sync(workspace)
    again = sync(workspace)
    assert again.points == 0
    assert len(all_runs(workspace)) == 1 + len(record.nodes)


def test_a_crash_before_the_offsets_were_kept_doubles_nothing(finished: tuple[Workspace, RunRecord]) -> None:
    workspace, record = finished
    sync(workspace)
    before = {run.info.run_id: run.data.metrics for run in all_runs(workspace)}
    for path in (workspace.root / "tracking").rglob(f"{record.ref}.json"):
        path.unlink()
    report = sync(workspace)
    assert report.points > 0
    assert {run.info.run_id: run.data.metrics for run in all_runs(workspace)} == before
    found = client(workspace)
    for run in all_runs(workspace):
        for name in run.data.metrics:
            steps = [point.step for point in found.get_metric_history(run.info.run_id, name)]
            assert len(steps) == len(set(steps)), (run.info.run_name, name)


def test_a_run_that_somebody_deleted_is_left_alone(finished: tuple[Workspace, RunRecord]) -> None:
    workspace, record = finished
    sync(workspace)
    client(workspace).delete_run(by_name(workspace)[record.ref].info.run_id)
    assert "was deleted" in sync(workspace).problems[0]


def test_a_resumed_attempt_shows_each_step_once(workspace: Workspace) -> None:
    record = recorded_run(workspace, seeds=(0,))
    node = record.nodes[1]
    log_steps(first := start_attempt(workspace, node, "20260101-000000-a"), 1, 20)
    sync(workspace)
    assert by_name(workspace)["pretrain, seed 0"].info.status == "KILLED"
    first.close()
    log_steps(second := start_attempt(workspace, node, "20260101-000001-b"), 11, 40)
    finish_stage(workspace, node, second, "20260101-000001-b")
    sync(workspace)
    run = by_name(workspace)["pretrain, seed 0"]
    steps = [point.step for point in client(workspace).get_metric_history(run.info.run_id, "loss")]
    assert sorted(steps) == list(range(1, 41))
    assert run.info.status == "FINISHED"


def test_a_failed_stage_is_shown_as_failed_and_the_run_with_it(workspace: Workspace) -> None:
    record = recorded_run(workspace, seeds=(0,))
    log = start_attempt(workspace, record.nodes[0], "20260101-000000-a")
    log.append("failed", cause="code", message="division by zero")
    sync(workspace)
    runs = by_name(workspace)
    assert runs["tokens"].info.status == runs[record.ref].info.status == "FAILED"


def test_a_run_with_a_controller_counts_as_running(workspace: Workspace) -> None:
    record = recorded_run(workspace, seeds=(0,))
    log = start_attempt(workspace, record.nodes[0], "20260101-000000-a")
    finish_stage(workspace, record.nodes[0], log, "20260101-000000-a")
    sync(workspace, live=True)
    assert by_name(workspace)[record.ref].info.status == "RUNNING"
    sync(workspace)
    assert by_name(workspace)[record.ref].info.status == "KILLED"


def test_a_stage_between_two_attempts_stays_running_while_a_controller_lives(workspace: Workspace) -> None:
    record = recorded_run(workspace, seeds=(0,))
    log = start_attempt(workspace, record.nodes[0], "20260101-000000-a")
    log.append("stopped", reason="signal")
    log.close()
    sync(workspace, live=True)
    assert by_name(workspace)["tokens"].info.status == "RUNNING"
    sync(workspace)
    assert by_name(workspace)["tokens"].info.status == "KILLED"


def test_a_stage_that_an_earlier_run_computed_is_marked_as_reused(workspace: Workspace) -> None:
    record = recorded_run(workspace, seeds=(0,))
    run_all(workspace, record)
    later = record.model_copy(update={"ref": "later-abababab", "name": "later", "created": time.time() + 1})
    from tokexp.ledger.runs import save_run

    save_run(workspace, later)
    sync(workspace)
    marks = {run.data.tags["tokexp.run"]: run.data.tags["tokexp.reused"] for run in all_runs(workspace)
             if run.info.run_name == "pretrain, seed 0"}  # fmt: skip
    assert marks == {record.ref: "false", "later-abababab": "true"}
    reused = next(run for run in all_runs(workspace) if run.data.tags.get("tokexp.reused") == "true")
    assert reused.data.metrics


def test_a_stage_that_never_started_is_not_shown(workspace: Workspace) -> None:
    record = recorded_run(workspace)
    sync(workspace)
    assert set(by_name(workspace)) == {record.ref}


def test_an_experiment_without_tracking_is_left_out(workspace: Workspace) -> None:
    recorded_run(workspace, track={"enabled": False})
    assert sync(workspace).runs == 0
    assert all_runs(workspace) == []


def test_an_unknown_ref_is_an_input_error(workspace: Workspace) -> None:
    with pytest.raises(InputError):
        sync(workspace, "nothing")


def test_a_server_that_refuses_is_reported_at_once(workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    record = recorded_run(workspace, track={"enabled": True, "uri": f"http://127.0.0.1:{port}"})
    begin = time.monotonic()
    report = sync(workspace, record.ref)
    assert "does not answer" in report.unreachable[0]
    assert time.monotonic() - begin < 3


def test_first_syncs_at_once_all_succeed_on_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    records = [recorded_run(workspace)]
    run_all(workspace, records[0], steps=3)
    reports: list[Any] = []
    threads = [threading.Thread(target=lambda: reports.append(sync(workspace))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(report.unreachable, report.problems) for report in reports] == [([], [])] * 3
    assert len(all_runs(workspace)) == 1 + len(records[0].nodes)


def test_the_final_numbers_of_a_stage_are_those_of_its_result(finished: tuple[Workspace, RunRecord]) -> None:
    workspace, record = finished
    sync(workspace)
    node = next(node for node in record.nodes if node.name == "finetune/noise" and node.seed == 1)
    assert by_name(workspace)["finetune/noise, seed 1"].data.metrics == metrics_of(node)
