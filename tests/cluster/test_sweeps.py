"""Sweeps on a real SLURM, sent and driven by tokexp's own commands."""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster.scenes import HOURS
from tests.cluster.site import Site

# One process of pytest works with the cluster.
pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("cluster")]

Scene = Callable[[str], Any]


def test_static_sweeps_go_out_whole(scene: Scene) -> None:
    found = scene("static_sweeps_go_out_whole")
    site: Site = found["site"]
    arrays = Counter(run.job.partition("_")[0] for run in site.cluster.runs(site.ref))
    assert sorted(arrays.values()) == [2, 2, 2, 2]
    assert {run.state for run in site.cluster.runs(site.ref)} == {"COMPLETED"}
    assert all("submitit" in process or "slurm" in process for process in found["alive"])
    # Each element waits for the one of its own number.
    assert len(re.findall(rf"^(\d+)_(\d) {site.ref}\S* aftercorr:\d+_\*", found["dependencies"], re.MULTILINE)) == 6
    assert found["seen"][-1]["complete"]
    assert [trial["state"] for trial in found["seen"][-1]["trials"]] == ["done", "done"]
    for status in found["seen"]:
        assert {trial["state"] for trial in status["trials"]} <= {"to do", "running", "done"}
    metrics = [trial["finetune/clean"]["metrics"] for trial in site.outputs()]
    assert metrics[0] != metrics[1]


def test_cancelled_sweeps_leave_nothing(scene: Scene) -> None:
    site = scene("cancelled_sweeps_leave_nothing")
    assert site.cluster.queue(site.ref) == []
    assert site.processes() == []
    assert site.states() == ["stopped", "stopped"]
    assert len(site.events("stopped")) == 1, "what ran has saved its work"


def test_searches_advance_by_ticks(scene: Scene) -> None:
    site = scene("searches_advance_by_ticks")
    trials = site.status()["trials"]
    states = {trial["values"]["tasks.finetune.train.lr"]: trial["state"] for trial in trials}
    assert len(trials) == 4
    assert states == {1e-3: "done", 2e-3: "done", 1e-9: "pruned", 2e-9: "pruned"}


def test_a_driver_job_takes_a_search_to_its_end(scene: Scene) -> None:
    site, driver = scene("a_driver_job_takes_a_search_to_its_end")
    assert site.states() == ["done", "done", "done"]
    assert len(site.attempts()) == 3
    assert len([run for run in site.cluster.runs(site.ref) if run.job == driver]) >= 2, "the driver itself was requeued"


def test_wrong_accounting_is_overruled(scene: Scene) -> None:
    site = scene("wrong_accounting_is_overruled")
    assert site.states() == ["done", "done"]
    assert len(site.attempts()) == 2


def test_gpu_hours_hold_between_ticks(scene: Scene) -> None:
    site = scene("gpu_hours_hold_between_ticks")
    assert set(site.states()) == {"stopped"}
    assert 0.7 * HOURS * 3600 < site.gpu_seconds() <= HOURS * 3600
    assert all("GPU hours" in trial["note"] for trial in site.status()["trials"])


def test_a_folder_is_encoded_by_tasks_of_two_nodes(scene: Scene) -> None:
    site, (away, here) = scene("a_folder_is_encoded_by_tasks_of_two_nodes")
    runs = site.cluster.runs("tokens-images")
    assert [(run.state, run.nodes) for run in runs][-1] == ("COMPLETED", "n[1,5]")
    assert away.read_bytes() == here.read_bytes()


def test_two_nodes_train_as_one(scene: Scene) -> None:
    alone, both = scene("two_nodes_train_as_one")
    (run,) = [run for run in both.cluster.runs(both.ref) if "downstream" in run.name]
    assert run.nodes == "n[1,5]"
    (one,), (two,) = alone.outputs(), both.outputs()
    assert two["finetune"]["metrics"] == pytest.approx(one["finetune"]["metrics"], rel=1e-5)
    assert two["finetune/clean"]["metrics"]["top1"] == one["finetune/clean"]["metrics"]["top1"]
