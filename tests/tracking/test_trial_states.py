"""Trials in a real SQLite store of MLflow: pruned, failed, stopped, requeued, cancelled and asked for again."""

import json

from tests.recorded import log_steps
from tests.recorded_sweeps import recorded_sweep
from tests.tracking.growing import sweep_of
from tests.tracking.seen import all_runs, by_name, client
from tokexp.ledger.claims import Claim
from tokexp.ledger.locks import file_lock
from tokexp.ledger.workspace import Workspace
from tokexp.tracking import sync

REF = "ablation-abababab"


def test_pruned_failed_and_stopped_trials_are_told_apart(workspace: Workspace) -> None:
    cases = {"good": {0: 0.9}, "cut": {0: "pruned"}, "broken": {0: "failed"}, "halted": {0: "stopped"}}
    recorded_sweep(workspace, cases, total=4)
    sync(workspace)
    runs = by_name(workspace)
    shown = {name: (run.info.status, run.data.tags.get("tokexp.state")) for name, run in runs.items() if name != REF}
    assert shown == {
        "good, seed 0": ("FINISHED", "done"), "cut, seed 0": ("KILLED", "pruned"),
        "broken, seed 0": ("FAILED", "failed"), "halted, seed 0": ("KILLED", "stopped"),
    }  # fmt: skip
    assert runs[REF].info.status == "FAILED"
    assert runs["cut, seed 0"].data.tags["tokexp.note"] == "worse than others"
    assert "finetune/top1" not in runs["cut, seed 0"].data.metrics
    assert runs["cut, seed 0"].data.metrics["storage/bytes_per_image"] == 16
    assert {name: runs[REF].data.metrics[f"trials/{name}"] for name in ("done", "pruned", "failed", "stopped")} == {
        "done": 1, "pruned": 1, "failed": 1, "stopped": 1,
    }  # fmt: skip


def test_a_sweep_whose_trials_were_pruned_or_are_done_is_finished(workspace: Workspace) -> None:
    recorded_sweep(workspace, {"good": {0: 0.9}, "cut": {0: "pruned"}}, total=2)
    sync(workspace)
    assert by_name(workspace)[REF].info.status == "FINISHED"


def test_a_trial_is_shown_once_a_stage_of_its_own_was_started(workspace: Workspace) -> None:
    sweep = sweep_of(workspace)
    trial, other = sweep.trial("a"), sweep.trial("b")
    sweep.start(trial, "tokens")
    sync(workspace, live=True)
    assert set(by_name(workspace)) == {"growth-12345678"}
    sweep.start(other)
    sync(workspace, live=True)
    assert set(by_name(workspace)) == {"growth-12345678", "b, seed 0"}


def test_a_trial_begins_with_its_first_event_not_when_its_attempt_is_submitted(workspace: Workspace) -> None:
    sweep = sweep_of(workspace, total=2)
    trial, _ = sweep.trial("a"), sweep.trial("b")
    log = sweep.start(trial)
    log.close()
    written = log.path.read_bytes()
    log.path.write_bytes(b"")
    sync(workspace, live=True)
    assert set(by_name(workspace)) == {"growth-12345678"}
    log.path.write_bytes(written)
    sync(workspace, live=True)
    assert by_name(workspace)["a, seed 0"].info.start_time == round(json.loads(written.splitlines()[0])["t"] * 1000)


def test_a_trial_stays_running_while_it_is_requeued_and_shows_each_step_once(workspace: Workspace) -> None:
    sweep = sweep_of(workspace, cluster={"name": "dev"}, total=1)
    trial = sweep.trial("a")
    first = sweep.start(trial)
    log_steps(first, 1, 4)
    sync(workspace)
    first.append("stopped", reason="preempted")
    first.close()
    sync(workspace)
    runs = by_name(workspace)
    assert (runs["a, seed 0"].info.status, runs["growth-12345678"].info.status) == ("RUNNING", "RUNNING")
    second = sweep.start(trial)
    log_steps(second, 3, 8)
    sweep.finish(trial, 0.8, log=second)
    sync(workspace)
    runs = by_name(workspace)
    assert (runs["a, seed 0"].info.status, runs["growth-12345678"].info.status) == ("FINISHED", "FINISHED")
    history = client(workspace).get_metric_history(runs["a, seed 0"].info.run_id, "finetune/curve/loss")
    assert sorted(point.step for point in history) == list(range(1, 9))
    assert runs["a, seed 0"].data.metrics["cost/attempts"] == 4


def test_without_anybody_who_goes_on_what_is_open_counts_as_killed(workspace: Workspace) -> None:
    sweep = sweep_of(workspace, total=2)
    sweep.finish(sweep.trial("a"), 0.8)
    log_steps(sweep.start(sweep.trial("b")), 1, 2)
    sync(workspace)
    assert {name: run.info.status for name, run in by_name(workspace).items()} == {
        "growth-12345678": "KILLED", "a, seed 0": "FINISHED", "b, seed 0": "KILLED",
    }  # fmt: skip
    with file_lock(sweep.folder / "controller.lock"):
        sync(workspace)
    assert {name: run.info.status for name, run in by_name(workspace).items()} == {
        "growth-12345678": "RUNNING", "a, seed 0": "FINISHED", "b, seed 0": "RUNNING",
    }  # fmt: skip


def test_a_cancelled_sweep_leaves_nothing_running(workspace: Workspace) -> None:
    sweep = sweep_of(workspace, cluster={"name": "dev"}, total=2)
    log = sweep.start(sweep.trial("a"))
    sync(workspace)
    assert {run.info.status for run in all_runs(workspace)} == {"RUNNING"}
    (sweep.folder / "cancel").touch()
    log.append("stopped", reason="cancel")
    sync(workspace)
    assert {run.info.status for run in all_runs(workspace)} == {"KILLED"}


def test_a_failed_trial_that_is_asked_for_again_is_shown_anew(workspace: Workspace) -> None:
    sweep = sweep_of(workspace, total=1)
    trial = sweep.trial("a")
    log = sweep.start(trial)
    log_steps(log, 1, 3)
    log.append("failed", cause="nan", message="not finite")
    sweep.end(trial, "failed", "finetune: not finite")
    sync(workspace)
    assert {run.info.status for run in all_runs(workspace)} == {"FAILED"}
    sweep.ask_again()
    sync(workspace, live=True)
    assert {run.info.status for run in all_runs(workspace)} == {"RUNNING"}
    again = sweep.start(trial)
    log_steps(again, 1, 5)
    sweep.finish(trial, 0.8, log=again)
    sync(workspace)
    run = by_name(workspace)["a, seed 0"]
    assert (run.info.status, run.data.metrics["finetune/top1"]) == ("FINISHED", 0.8)
    assert by_name(workspace)["growth-12345678"].info.status == "FINISHED"


def test_a_settled_trial_is_final_only_when_its_attempt_has_ended(workspace: Workspace) -> None:
    sweep = sweep_of(workspace, total=1)
    trial = sweep.trial("a")
    log = sweep.start(trial)
    log_steps(log, 1, 3)
    key = trial.keys["finetune"]
    with Claim.take(workspace, key, log.path.parent.name) as claim:  # type: ignore[union-attr]
        assert claim is not None
        sweep.end(trial, "pruned", "worse than others at the same step")
        sync(workspace)
        assert by_name(workspace)["a, seed 0"].info.status == "RUNNING"
        log_steps(log, 4, 4)
        log.append("stopped", reason="pruned")
    sync(workspace)
    run = by_name(workspace)["a, seed 0"]
    assert (run.info.status, run.data.tags["tokexp.state"]) == ("KILLED", "pruned")
    history = client(workspace).get_metric_history(run.info.run_id, "finetune/curve/loss")
    assert sorted(point.step for point in history) == [1, 2, 3, 4]
