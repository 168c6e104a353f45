"""Sweeps in a real SQLite store of MLflow: a parent and its trials, once each, in the state that they are in."""

import base64
import json
import shutil
import threading
import zlib
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType

from tests.recorded import recorded_run, run_all
from tests.recorded_sweeps import BYTES, TOP1, recorded_sweep
from tests.tracking.growing import sweep_of
from tests.tracking.seen import all_runs, by_name, client
from tokexp.errors import InputError
from tokexp.ledger.sweeps import COMPLETE_FILE, sweep_folder
from tokexp.ledger.workspace import Workspace
from tokexp.tracking import sync
from tokexp.tracking.stores import local_uri
from tokexp.tracking.sync import Syncer

REF = "ablation-abababab"


def picture(workspace: Workspace) -> dict[str, Any]:
    """Return everything that the store shows of all runs, histories included."""
    found, shown = client(workspace), {}
    for run in all_runs(workspace):
        histories = {}
        for name in run.data.metrics:
            points = found.get_metric_history(run.info.run_id, name)
            histories[name] = sorted((point.step, point.timestamp, point.value) for point in points)
        shown[run.info.run_name] = (
            run.info.run_id, run.info.status, run.info.end_time, histories, run.data.params, run.data.tags
        )  # fmt: skip
    return shown


@pytest.fixture
def finished(workspace: Workspace) -> Workspace:
    values = {"SeiT": {"tokenizer.codebook_size": 8, "augment.task": [{"kind": "emb_noise"}]}, "both": {}}
    frozen = {"sweep": {"name": "ablation"}, "experiment": {"tokenizer": {"codebook_size": 64}}}
    recorded_sweep(
        workspace, {"SeiT": {0: 0.7, 1: 0.72}, "both": {0: 0.9, 1: 0.91}}, values=values, metrics=(TOP1, BYTES),
        sizes={"SeiT": 9.8, "both": 13.8}, parameters=("tokenizer.codebook_size", "augment.task"), total=4, gpus=1,
        provenance={"git": {"commit": "c0ffee", "dirty": True}}, frozen=frozen,
    )  # fmt: skip
    (sweep_folder(workspace, REF) / COMPLETE_FILE).touch()
    return workspace


def test_a_finished_sweep_is_one_parent_with_its_trials_below(finished: Workspace) -> None:
    report = sync(finished, REF)
    assert (report.sweeps, report.trials, report.runs, report.unreachable, report.problems) == (1, 4, 0, [], [])
    runs = by_name(finished)
    assert set(runs) == {REF, "SeiT, seed 0", "SeiT, seed 1", "both, seed 0", "both, seed 1"}
    parent = runs.pop(REF)
    assert parent.info.status == "FINISHED"
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert {run.data.tags["tokexp.study"] for run in [parent, *runs.values()]} == {REF}


def test_a_trial_has_its_numbers_under_full_names(finished: Workspace) -> None:
    sync(finished)
    metrics = by_name(finished)["both, seed 1"].data.metrics
    assert metrics["finetune/top1"] == 0.91
    assert metrics["storage/bytes_per_image"] == 13.8
    assert metrics["pretrain/loss"] == 0.5
    assert metrics["cost/attempts"] == 4
    assert metrics["cost/seconds"] == pytest.approx(130)
    assert metrics["cost/gpu_hours"] == pytest.approx(130 / 3600, rel=1e-4)


def test_a_trial_has_the_learning_curves_of_its_stages(finished: Workspace) -> None:
    sync(finished)
    found, run = client(finished), by_name(finished)["both, seed 1"]
    for name in ("finetune/curve/loss", "pretrain/curve/loss"):
        history = found.get_metric_history(run.info.run_id, name)
        assert [point.step for point in sorted(history, key=lambda point: point.step)] == list(range(1, 11))


def test_parameters_are_what_the_sweep_varies_and_nothing_else(finished: Workspace) -> None:
    sync(finished)
    runs = by_name(finished)
    assert runs["SeiT, seed 1"].data.params == {
        "case": "SeiT", "seed": "1", "tokenizer.codebook_size": "8", "augment.task": '[{"kind":"emb_noise"}]'
    }  # fmt: skip
    assert runs["both, seed 0"].data.params == {"case": "both", "seed": "0", "tokenizer.codebook_size": "64"}


def test_tags_find_trials_without_their_parent(finished: Workspace) -> None:
    sync(finished)
    tags = by_name(finished)["SeiT, seed 1"].data.tags
    wanted = {"sweep": "ablation", "case": "SeiT", "seed": "1", "number": "0", "state": "done", "git": "c0ffee-dirty"}
    assert {name: tags[f"tokexp.{name}"] for name in wanted} == wanted
    assert tags["tokexp.trial"].endswith("-s1")
    assert len(tags["tokexp.spec_hash"]) >= 8
    assert {name for name in tags if name.startswith("tokexp.key.")} == {
        f"tokexp.key.{name}" for name in ("tokens", "pretrain", "finetune", "finetune/clean")
    }


def test_the_parent_says_what_was_best_and_how_many_are_done(finished: Workspace) -> None:
    sync(finished)
    parent = by_name(finished)[REF]
    assert parent.data.metrics["best/finetune/top1"] == pytest.approx(0.905)
    assert parent.data.metrics["best/storage/bytes_per_image"] == pytest.approx(9.8)
    assert parent.data.metrics["trials/done"] == 4
    assert parent.data.tags["tokexp.best.finetune/top1"] == "both"
    assert parent.data.tags["tokexp.best.storage/bytes_per_image"] == "SeiT"
    note = parent.data.tags["mlflow.note.content"]
    assert note.index("| both | 0.905 | 13.8 |") < note.index("| SeiT | 0.71 | 9.8 |")


def test_the_spec_is_kept_as_asked_and_as_resolved(finished: Workspace) -> None:
    sync(finished)
    found, run = client(finished), by_name(finished)[REF]
    assert {item.path for item in found.list_artifacts(run.info.run_id)} == {"spec.yaml", "resolved.yaml"}
    (resolved,) = (finished.root / "mlartifacts").rglob("resolved.yaml")
    assert "codebook_size: 64" in resolved.read_text()


def test_the_dashboard_opens_on_a_view_with_the_metrics_of_the_sweep(finished: Workspace) -> None:
    syncer = Syncer(finished)
    assert syncer.page(local_uri(finished)) == ""
    syncer.update()
    page = syncer.page(local_uri(finished))
    experiment = client(finished).get_experiment_by_name("ablation")
    assert page == f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=tokexp-{REF}"
    saved = json.loads(experiment.tags[f"mlflow.sharedViewState.tokexp-{REF}"])
    state = json.loads(zlib.decompress(base64.b64decode(saved["state"].removeprefix("deflate;"))))
    assert state["selectedColumns"][:2] == ["metrics.`finetune/top1`", "metrics.`storage/bytes_per_image`"]
    assert state["orderByKey"] == "metrics.`finetune/top1`"
    matching = client(finished).search_runs([experiment.experiment_id], state["searchFilter"])
    assert {run.info.run_name for run in matching} == set(by_name(finished)) - {REF}


def test_syncing_again_shows_nothing_new_and_looks_at_no_settled_trial(finished: Workspace) -> None:
    sync(finished)
    before = picture(finished)
    shutil.rmtree(finished.attempts)
    shutil.rmtree(finished.store)
    again = sync(finished)
    assert (again.trials, again.points, again.problems) == (0, 0, [])
    assert picture(finished) == before


def test_a_crash_before_the_state_was_kept_doubles_nothing(finished: Workspace) -> None:
    sync(finished)
    before = picture(finished)
    for path in (finished.root / "tracking").rglob(f"{REF}.json"):
        path.unlink()
    assert sync(finished).points > 0
    assert picture(finished) == before


def test_first_syncs_at_once_show_everything_once(finished: Workspace) -> None:
    (finished.root / "mlflow.db").unlink()
    reports: list[Any] = []
    threads = [threading.Thread(target=lambda: reports.append(sync(finished))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(report.unreachable, report.problems) for report in reports] == [([], [])] * 3
    assert sum(report.trials for report in reports) == 4
    assert len(by_name(finished)) == 5


def test_runs_and_sweeps_are_synced_together_and_found_by_name_and_file(finished: Workspace, tmp_path: Path) -> None:
    run_all(finished, recorded_run(finished, seeds=(0,)), steps=2)
    report = sync(finished)
    assert (report.runs, report.sweeps) == (1, 1)
    assert sync(finished, "ablation").sweeps == 1
    assert sync(finished, "recorded").runs == 1
    with pytest.raises(InputError, match=r"nearest: .*recorded"):
        sync(finished, "recordet")


def test_an_unknown_ref_names_the_nearest_sweep_where_there_are_no_runs(finished: Workspace) -> None:
    with pytest.raises(InputError, match=f"nearest: {REF}"):
        sync(finished, "ablatoin")


def test_a_sweep_without_tracking_is_left_out(workspace: Workspace) -> None:
    sweep_of(workspace, track={"enabled": False})
    assert sync(workspace).sweeps == 0
    assert all_runs(workspace) == []


def test_the_experiment_is_the_one_that_was_asked_for(workspace: Workspace) -> None:
    sweep_of(workspace, track={"experiment": "everything"})
    sync(workspace)
    experiment = client(workspace).get_experiment_by_name("everything")
    assert len(client(workspace).search_runs([experiment.experiment_id])) == 1


def test_a_searched_trial_bears_its_number(workspace: Workspace) -> None:
    sweep = sweep_of(workspace, searched=True)
    sweep.finish(sweep.trial("", number=12, lr=0.5), 0.8)
    sweep.finish(sweep.trial("SeiT", number=13, lr=0.7), 0.8)
    sync(workspace)
    runs = by_name(workspace)
    assert set(runs) == {"growth-12345678", "trial 12, seed 0", "trial 13 SeiT, seed 0"}
    assert runs["trial 12, seed 0"].data.params == {"case": "trial 12", "seed": "0", "lr": "0.5"}
    assert runs["growth-12345678"].info.status == "KILLED"
    sweep.complete()
    sync(workspace)
    assert by_name(workspace)["growth-12345678"].info.status == "FINISHED"


def test_only_points_that_are_done_for_all_seeds_are_ranked(workspace: Workspace) -> None:
    recorded_sweep(workspace, {"whole": {0: 0.5, 1: 0.6}, "half": {0: 0.9, 1: "failed"}}, total=4)
    sync(workspace)
    assert by_name(workspace)[REF].data.metrics["best/finetune/top1"] == pytest.approx(0.55)


def test_a_view_of_many_parameters_fits_into_a_tag(workspace: Workspace) -> None:
    paths = tuple(f"tasks.finetune.train.some_setting_{number}.deep.value" for number in range(60))
    sweep = sweep_of(workspace, parameters=paths)
    sweep.finish(sweep.trial("a", **dict.fromkeys(paths, 1)), 0.5)
    assert sync(workspace).unreachable == []
    assert len(by_name(workspace)["a, seed 0"].data.params) == 62
    tags = client(workspace).get_experiment_by_name("growth").tags
    assert "mlflow.sharedViewState.tokexp-growth-12345678" in tags


def test_only_points_that_keep_the_bounds_are_ranked(workspace: Workspace) -> None:
    frozen = {"sweep": {"constraints": [{"metric": "storage/bytes_per_image", "at_most": 10, "at_least": None}]}}
    recorded_sweep(
        workspace, {"small": {0: 0.5}, "large": {0: 0.9}}, sizes={"small": 9.8, "large": 20.0}, frozen=frozen, total=2
    )
    sync(workspace)
    assert by_name(workspace)[REF].data.metrics["best/finetune/top1"] == 0.5


def test_odd_names_and_long_values_are_taken(workspace: Workspace) -> None:
    sweep = sweep_of(workspace, parameters=("a.b", "x=y"))
    case = "codebook=8, fraction=(0.1) 50%"
    sweep.finish(sweep.trial(case, **{"a.b": "v" * 9000, "x=y": [1, {"kind": "deep"}] * 400}), 0.5)
    report = sync(workspace)
    assert report.problems == report.unreachable == []
    params = by_name(workspace)[f"{case}, seed 0"].data.params
    assert params["case"] == case
    assert params["a.b"] == "v" * 247 + "..."
    assert len(params["x_y"]) == 250


def test_a_trial_that_somebody_deleted_is_left_alone_and_the_others_go_on(workspace: Workspace) -> None:
    sweep = sweep_of(workspace, total=2)
    one, two = sweep.trial("one"), sweep.trial("two")
    logs = [sweep.start(trial) for trial in (one, two)]
    sync(workspace, live=True)
    client(workspace).delete_run(by_name(workspace)["one, seed 0"].info.run_id)
    sweep.finish(one, 0.7, log=logs[0])
    sweep.finish(two, 0.8, log=logs[1])
    report = sync(workspace)
    assert report.unreachable == []
    assert "one, seed 0" in report.problems[0]
    assert sync(workspace).problems == []
    assert by_name(workspace)["two, seed 0"].info.status == "FINISHED"
    deleted = all_runs(workspace, ViewType.DELETED_ONLY)
    assert [run.info.run_name for run in deleted] == ["one, seed 0"]


def test_a_sweep_that_somebody_deleted_is_left_alone(finished: Workspace) -> None:
    sync(finished)
    client(finished).delete_run(by_name(finished)[REF].info.run_id)
    assert "was deleted" in sync(finished).problems[0]
