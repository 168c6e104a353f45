import json

import pytest

from tests.launch import fake_trials
from tests.launch.fake_trials import BASE
from tokexp import cli, worker
from tokexp.launch.driving import go_on
from tokexp.ledger.sweeps import list_sweeps, sweep_folder
from tokexp.ledger.workspace import Workspace

STATIC = """\
schema: 1
name: fake
experiment: base.yaml
cases: {low: {tasks.finetune.train.lr: 0.01}, high: {tasks.finetune.train.lr: 0.02}}
seeds: [0, 1]
baseline: low
"""
PROFILE = "schema: 1\nname: nowhere\npartition: main\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "_context", fake_trials.context)
    monkeypatch.setattr(worker, "_run_stage", fake_trials.run_stage)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKEXP_WORKSPACE", raising=False)
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "sweep.yaml").write_text(STATIC)
    (tmp_path / "nowhere.yaml").write_text(PROFILE)
    return tmp_path


def run(*arguments):
    return cli._run([str(each) for each in arguments])


def said(capsys):
    return json.loads(capsys.readouterr().out)


def sweep(*arguments):
    return run("sweep", "sweep.yaml", "--launcher", "inline", *arguments)


def test_a_sweep_ends_with_its_table(here, capsys):
    assert sweep() == 0
    text = capsys.readouterr().out
    assert "low" in text
    assert "high" in text
    assert "baseline" in text
    assert "finetune/top1" in text


def test_status_counts_trials_and_stages(here, capsys):
    assert sweep("--json") == 0
    ref = said(capsys)["ref"]
    assert run("status", ref, "--json") == 0
    found = said(capsys)
    assert found["complete"]
    assert [trial["state"] for trial in found["trials"]] == ["done"] * 4
    assert {stage["state"] for stage in found["stages"]} == {"done"}
    assert run("status", "--json") == 0
    assert said(capsys)["sweeps"][0]["trials"] == {"done": 4}
    assert run("status", "sweep.yaml") == 0
    assert "4 trials: 4 done" in capsys.readouterr().out


def test_logs_and_why_know_the_stages_of_a_sweep(here, capsys):
    assert sweep("--json") == 0
    ref = said(capsys)["ref"]
    assert run("logs", ref) == 0
    assert "finetune" in capsys.readouterr().out
    assert run("status", ref, "--json") == 0
    keys = [trial["stages"]["finetune"] for trial in said(capsys)["trials"]]
    assert run("why", keys[0][:12], keys[2][:12]) == 0
    assert "train.lr" in capsys.readouterr().out


def test_a_failed_trial_gives_exit_code_1_and_retry_tries_it_again(here, capsys, monkeypatch):
    monkeypatch.setenv("FAKE_TRIALS", json.dumps({"fail": [0.02]}))
    assert sweep("--json") == 1
    found = said(capsys)
    assert found["trials"] == {"done": 2, "failed": 2}
    assert "too large" in found["failures"][0]["message"]
    monkeypatch.setenv("FAKE_TRIALS", "{}")
    workspace = Workspace(here / "workspace")
    folder = sweep_folder(workspace, found["ref"])
    with fake_trials.launcher() as chosen:
        assert go_on(workspace, found["ref"], chosen).states == {"done": 2, "failed": 2}
    assert sweep("--json") == 0
    assert said(capsys)["trials"] == {"done": 4}
    assert (folder / "complete").exists()


def test_cancel_before_the_end_is_kept_until_somebody_asks_again(here, capsys):
    assert run("sweep", "sweep.yaml", "--set", "budget.trials=2", "--launcher", "inline", "--json") == 0
    ref = said(capsys)["ref"]
    assert run("cancel", ref, "--json") == 0
    assert said(capsys)["stopped"] == []
    workspace = Workspace(here / "workspace")
    with fake_trials.launcher() as chosen:
        assert go_on(workspace, ref, chosen).interrupted is False
    assert sweep() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--watch"], "--watch is for sweeps on a cluster"),
        (["--dry-run"], "--dry-run is for sweeps on a cluster"),
        (["--driver", "slurm"], "--driver is for sweeps on a cluster"),
        (["--on", "nowhere.yaml", "--jobs", "2"], "--detach and --jobs are for this machine"),
        (["--on", "nowhere.yaml", "--watch", "--dry-run"], "exclude one another"),
        (["--on", "missing.yaml"], "missing.yaml"),
        (["--set", "budget.trails=3"], "trials"),
        (["--set", "grid.model.dept=[1, 2]"], "depth"),
    ],
)
def test_what_cannot_work_is_refused_and_writes_nothing(here, capsys, arguments, message):
    assert run("sweep", "sweep.yaml", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not (here / "workspace").exists()


def test_an_experiment_is_no_sweep(here, capsys):
    assert run("sweep", "base.yaml") == 2
    assert "experiment" in capsys.readouterr().err
    assert not (here / "workspace").exists()


def test_tick_is_for_sweeps_on_a_cluster(here, capsys):
    assert run("tick") == 0
    assert "no sweep on a cluster" in capsys.readouterr().err
    assert sweep() == 0
    ref = list_sweeps(Workspace(here / "workspace"))[0].ref
    assert run("tick", ref) == 2
    assert "tokexp sweep" in capsys.readouterr().err
    assert run("tick", "fakee") == 2
    assert "nearest: fake" in capsys.readouterr().err
