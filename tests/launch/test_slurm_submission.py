import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch import fake_stages
from tests.launch.fake_slurm import FakeSlurm
from tokexp.errors import InputError, TokexpError
from tokexp.launch.attempts import new_attempt
from tokexp.launch.base import Task
from tokexp.launch.slurm import SlurmLauncher, dry_run
from tokexp.launch.slurm_submission import outside_of_jobs, parameters
from tokexp.launch.work import stage_job
from tokexp.ledger.workspace import Workspace
from tokexp.spec.cluster import ClusterSpec
from tokexp.spec.resources import Resources

GOLDEN = Path(__file__).parents[1] / "golden" / "slurm"
PLAIN = {"schema": 1, "name": "plain"}
FULL = {
    **PLAIN, "name": "full", "partition": "gpu", "account": "vision", "qos": "normal", "constraint": "a100|h100",
    "options": {"mail-type": "FAIL", "exclusive": True, "gpus-per-node": None, "gres": "gpu:a100:4", "wckey": "seit"},
    "setup": ["module load cuda/12", "source /opt/env/bin/activate"], "teardown": ["rm -rf /scratch/$SLURM_JOB_ID"],
    "python": "/opt/env/bin/python", "container": {"command": ["apptainer", "exec", "--nv", "image with blank.sif"]},
    "environment": {"NCCL_SOCKET_IFNAME": "ib0", "NOTE": "it's $HOME"}, "srun_args": ["--cpu-bind=none"],
    "parallel": 8, "signal_delay": 120, "time": "90 min",
    "resources": {"pretrain": {"gpus": 4, "nodes": 2, "memory": "64 GB", "time": "2 d"}},
    "stages": {
        "downstream": {"partition": "small", "qos": "quick", "options": {"exclusive": None}, "setup": ["echo here"]},
    },
}  # fmt: skip
SHORT = {**PLAIN, "name": "short", "requeue": False, "kill_invalid_dependency": False, "time": "70 s", "max_array": 2}


def profile(given) -> ClusterSpec:
    return ClusterSpec.model_validate(given)


def trials():
    """A tokenizer, its tokens, and three trials of a pretraining and a fine-tuning each."""
    fit = fake_stages.node("fit")
    tokens = fake_stages.node("tokens", inputs=[fit])
    pretrains = [fake_stages.node("pretrain", f"seed {seed}", inputs=[tokens, fit], seed=seed) for seed in range(3)]
    return [fit, tokens, *pretrains]


@pytest.mark.parametrize("given", [PLAIN, FULL, SHORT], ids=lambda given: given["name"])
def test_the_scripts_of_a_plan_are_these(given, tmp_path):
    text = dry_run(trials(), profile(given), Workspace(tmp_path / "w"), "table-7-ab12")
    found = text.replace(str(tmp_path / "w"), "WORKSPACE").replace(sys.executable, "PYTHON")
    assert found == (GOLDEN / f"{given['name']}.sbatch").read_text()
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("given", [PLAIN, FULL, SHORT], ids=lambda given: given["name"])
def test_the_scripts_are_what_a_shell_can_read(given, tmp_path):
    text = dry_run(trials(), profile(given), Workspace(tmp_path), "name")
    assert subprocess.run(["bash", "-n"], input=text.encode(), check=False).returncode == 0


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm")
    (fake.folder / "closed").touch()
    monkeypatch.setenv("PATH", f"{fake.bin}:{Path(shutil.which('bash')).parent}")
    return fake


def tasks_of(nodes, workspace, cluster):
    folders = {node.key: new_attempt(workspace, stage_job(node, workspace, "test")) for node in nodes}
    return [
        Task(
            folders[node.key], cluster.resources_for(node.kind, node.resources), node.kind, node.name,
            tuple(folders[key] for key in node.inputs.values() if key in folders),
        )
        for node in nodes
    ]  # fmt: skip


@pytest.mark.parametrize("given", [PLAIN, FULL], ids=lambda given: given["name"])
def test_a_dry_run_shows_what_is_really_submitted(given, tmp_path, slurm):
    workspace, cluster = Workspace(tmp_path / "w"), profile(given)
    shown = dry_run(trials(), cluster, workspace, "table")
    with SlurmLauncher(cluster, workspace, "table") as launcher:
        launcher.submit_many(tasks_of(trials(), workspace, cluster))
    sent = [Path(call[1]).read_text() for call in slurm.calls("sbatch")]
    folders = r"(tokenizer|tokens|pretrain)-\w+"
    pieces = [re.sub(r"^# job .*\n", "", piece) for piece in re.split(r"\n\n(?=# job)", shown)]
    assert [re.sub(folders, r"\1", text).strip() for text in sent] == [
        re.sub(folders, r"\1", piece).strip() for piece in pieces
    ]


def test_a_thousand_trials_take_a_handful_of_calls(tmp_path, slurm):
    workspace, cluster = Workspace(tmp_path / "w"), profile(PLAIN)
    tasks = [Task(workspace.attempt("fit"), Resources(), "tokenizer", "fit")]
    tasks.append(Task(workspace.attempt("tokens"), Resources(), "tokens", "tokens", (tasks[0].folder,)))
    for number in range(1000):
        after = (tasks[0].folder, tasks[1].folder)
        tasks.append(Task(workspace.attempt(f"trial-{number}"), Resources(), "pretrain", "pretrain", after))
    for task in tasks:
        task.folder.mkdir(parents=True)
    with SlurmLauncher(cluster, workspace, "table") as launcher:
        handles = launcher.submit_many(tasks)
    assert len(slurm.calls("sbatch")) == 3
    assert len({handle.folder.joinpath("slurm.json").read_text() for handle in handles}) == 1002


def test_a_profile_that_sets_what_tokexp_sets_is_refused_before_anything_is_sent(tmp_path, slurm):
    cluster = profile({**PLAIN, "stages": {"pretrain": {"options": {"kill-on-invalid-dep": "no"}}}})
    workspace = Workspace(tmp_path / "w")
    with pytest.raises(InputError, match=r"plain: options\.kill-on-invalid-dep is set by tokexp itself; use kill_inv"):
        SlurmLauncher(cluster, workspace, "table").submit_many(tasks_of(trials(), workspace, cluster))
    assert slurm.calls("sbatch") == []


def test_what_sbatch_refuses_is_said_in_its_words_and_leaves_no_trace(tmp_path, slurm, capfd):
    (slurm.folder / "refuse").write_text(
        "sbatch: error: invalid partition specified: x\n"
        "sbatch: error: Batch job submission failed: Invalid partition name"
    )
    workspace, cluster = Workspace(tmp_path / "w"), profile(PLAIN)
    tasks = tasks_of(trials(), workspace, cluster)
    with pytest.raises(InputError) as caught:
        SlurmLauncher(cluster, workspace, "table").submit_many(tasks)
    assert str(caught.value) == (
        "SLURM refused table.tokenizer (plain): invalid partition specified: x; "
        "Batch job submission failed: Invalid partition name"
    )
    assert [sorted(file.name for file in task.folder.iterdir()) for task in tasks] == [["job.json"]] * 5
    assert list((workspace.root / "slurm" / "table").iterdir()) == []
    assert capfd.readouterr().err == ""


def test_a_submission_that_is_refused_half_way_is_taken_back(tmp_path, slurm, monkeypatch):
    from tokexp.launch import slurm_sending

    real, sent = slurm_sending.send, []

    def send(*arguments):
        if len(sent) == 2:
            (slurm.folder / "refuse").write_text("sbatch: error: QOSMaxSubmitJobPerUserLimit")
        sent.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(slurm_sending, "send", send)
    workspace, cluster = Workspace(tmp_path / "w"), profile(PLAIN)
    tasks = tasks_of(trials(), workspace, cluster)
    launcher = SlurmLauncher(cluster, workspace, "table")
    with pytest.raises(InputError, match="QOSMaxSubmitJobPerUserLimit"):
        launcher.submit_many(tasks)
    assert {job["state"] for job in slurm.jobs().values()} == {"CANCELLED"}
    assert [launcher.adopt(task.folder) for task in tasks] == [None] * 5
    assert not any((task.folder / "slurm.json").exists() for task in tasks)


def test_a_controller_that_cannot_be_reached_is_tried_again(tmp_path, slurm, monkeypatch):
    pauses = []
    monkeypatch.setattr("tokexp.launch.slurm_submission.time.sleep", pauses.append)
    (slurm.folder / "refuse").write_text("sbatch: error: Unable to contact slurm controller (connect failure)")
    workspace, cluster = Workspace(tmp_path / "w"), profile(PLAIN)
    with pytest.raises(TokexpError, match="SLURM cannot be reached to submit"):
        SlurmLauncher(cluster, workspace, "table").submit_many(tasks_of(trials(), workspace, cluster))
    assert len(slurm.calls("sbatch")) == 4
    assert len(pauses) >= 3


def test_a_machine_without_slurm_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    workspace, cluster = Workspace(tmp_path / "w"), profile(PLAIN)
    with pytest.raises(InputError, match="sbatch is not on this machine"):
        SlurmLauncher(cluster, workspace, "table").submit_many(tasks_of(trials()[:1], workspace, cluster))


def test_what_is_pickled_is_a_function_s_name_and_a_path(tmp_path, slurm):
    workspace, cluster = Workspace(tmp_path / "w"), profile(PLAIN)
    tasks = tasks_of(trials()[:1], workspace, cluster)
    SlurmLauncher(cluster, workspace, "table").submit_many(tasks)
    [file] = (workspace.root / "slurm").rglob("*_submitted.pkl")
    content = file.read_bytes()
    assert b"tokexp.launch.slurm_job" in content
    assert str(tasks[0].folder).encode() in content
    assert len(content) < 1000


def test_a_setup_line_that_fails_ends_the_job_and_teardown_does_not_hide_it(tmp_path):
    given = parameters(profile({**PLAIN, "setup": ["false"], "teardown": ["echo bye"]}), "tokens", Resources(), "n")
    script = "\n".join([*given["setup"], "echo began"])
    ended = subprocess.run(["bash"], input=script.encode(), capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, b"")
    assert b"a setup line failed: false" in ended.stderr
    ended = subprocess.run(["bash"], input="\n".join(["(exit 7)", *given["teardown"]]).encode(), capture_output=True)
    assert (ended.returncode, ended.stdout) == (7, b"bye\n")


def test_variables_reach_the_job_as_they_were_written():
    value = 'it\'s $HOME "quoted"\nand more'
    given = parameters(profile({**PLAIN, "environment": {"NOTE": value}}), "tokens", Resources(), "n")
    script = "\n".join([*given["setup"], 'printf %s "$NOTE"'])
    assert subprocess.run(["bash"], input=script.encode(), capture_output=True, check=True).stdout.decode() == value


def test_a_job_submitted_from_a_job_inherits_nothing_of_it(monkeypatch):
    import os

    for name in ("SLURM_JOB_ID", "SBATCH_PARTITION", "SUBMITIT_FOLDER", "RANK", "SLURM_CONF", "SLURMS_OWN"):
        monkeypatch.setenv(name, "x")
    with outside_of_jobs():
        assert [n for n in ("SLURM_JOB_ID", "SBATCH_PARTITION", "SUBMITIT_FOLDER", "RANK") if n in os.environ] == []
        assert os.environ["SLURM_CONF"] == os.environ["SLURMS_OWN"] == "x"
    assert os.environ["SLURM_JOB_ID"] == os.environ["RANK"] == "x"


def test_a_stage_kind_may_have_another_place():
    given = parameters(profile(FULL), "downstream", Resources(), "n")
    assert (given["partition"], given["qos"], given["account"]) == ("small", "quick", "vision")
    assert "exclusive" not in given["additional_parameters"]
    assert given["setup"][-2:] == ["echo here", "trap - ERR"]


def test_processes_without_gpus_become_tasks_of_the_job():
    given = parameters(profile(PLAIN), "tokens", Resources(cpus=2, nodes=3, processes=4), "n")
    assert (given["nodes"], given["ntasks_per_node"], given["cpus_per_task"]) == (3, 4, 2)
    assert parameters(profile(PLAIN), "tokens", Resources(gpus=2), "n")["ntasks_per_node"] == 2


def test_memory_is_rounded_up_and_time_to_minutes():
    given = parameters(profile(PLAIN), "tokens", Resources(memory=2**20 * 10 + 1, time=61), "n")
    assert (given["mem"], given["time"]) == ("11M", 2)
    assert shlex.split(given["job_name"]) == ["n"]
