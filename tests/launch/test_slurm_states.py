import stat

import pytest

from tokexp.launch.slurm_commands import ask, gathered
from tokexp.launch.slurm_states import JobState, expand, job_states

SQUEUE = """\
7_0|COMPLETED|None|/w/s.sh
7_1|FAILED|NonZeroExitCode|/w/s.sh
7_2|RUNNING|None|/w/s.sh
7_[3-5%2]|PENDING|JobArrayTaskLimit|/w/s.sh
8_1|CANCELLED|DependencyNeverSatisfied|/w/a path|with a bar.sh
8_2|PENDING|DependencyNeverSatisfied|/w/s.sh
9|COMPLETING|None|/w/s.sh
10|PENDING|BeginTime|/w/s.sh
11|REQUEUE_HOLD|job requeued in held state|/w/s.sh
12|PREEMPTED|None|/w/s.sh
13|OUT_OF_MEMORY|OutOfMemory|/w/s.sh
14|NODE_FAIL|None|/w/s.sh
15|TIMEOUT|TimeLimit|/w/s.sh
"""
SACCT = """\
20|CANCELLED by 1000|0:0|None
21_3|FAILED|9:0|None
21_[4-6%2]|PENDING|0:0|None
22|COMPLETED|0:0|None
22.batch|FAILED|1:0|
23|NODE_FAIL|1:0|None
24|RUNNING|0:0|None
25|FAILED|137:0|None
26|FAILED|0:15|None
"""
SHOW = "JobId=71 ArrayJobId=7 ArrayTaskId=1 JobName=x JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0\n"


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Commands that print a text and exit with a code, or are not there (None)."""

    def make(squeue=("", 0), sacct=("", 0), scontrol=("", 0)):
        for name, answer in {"squeue": squeue, "sacct": sacct, "scontrol": scontrol}.items():
            if answer is not None:
                (tmp_path / f"{name}.txt").write_text(answer[0])
                file = tmp_path / name
                where = "" if answer[1] == 0 else " >&2"
                note, say = f"echo {name} >> {tmp_path}/calls", f"/bin/cat {tmp_path}/{name}.txt{where}"
                file.write_text(f"#!/bin/sh\n{note}\n{say}\nexit {answer[1]}\n")
                file.chmod(file.stat().st_mode | stat.S_IXUSR)
        return lambda: (tmp_path / "calls").read_text().split()

    monkeypatch.setenv("PATH", str(tmp_path))
    return make


def states_of(*jobs):
    return {job: state.state for job, state in job_states(jobs).items()}


def test_one_call_tells_the_states_of_all_live_and_recent_jobs(commands):
    calls = commands((SQUEUE, 0), scontrol=(SHOW, 0))
    found = states_of("7_0", "7_1", "7_2", "7_3", "7_5", "8_1", "8_2", "9", "10", "11", "12", "13", "14", "15")
    assert found == {
        "7_0": "completed", "7_1": "failed", "7_2": "running", "7_3": "pending", "7_5": "pending", "8_1": "dependency",
        "8_2": "dependency", "9": "running", "10": "pending", "11": "pending", "12": "preempted",
        "13": "out_of_memory", "14": "node_fail", "15": "timeout",
    }  # fmt: skip
    assert calls() == ["squeue", "scontrol"]


def test_the_exit_code_of_a_failed_job_is_asked_for(commands):
    commands((SQUEUE, 0), scontrol=(SHOW, 0))
    assert job_states(["7_1"])["7_1"] == JobState("failed", "NonZeroExitCode", 3, "scontrol")


def test_accounting_is_asked_for_what_the_queue_has_forgotten(commands):
    commands(("slurm_load_jobs error: Invalid job id specified", 1), (SACCT, 0))
    found = job_states(["20", "21_3", "22", "23", "25", "26"])
    assert {job: (state.state, state.exit_code) for job, state in found.items()} == {
        "20": ("cancelled", 0), "21_3": ("failed", -9), "22": ("completed", 0), "23": ("node_fail", 1),
        "25": ("failed", -9), "26": ("failed", -15),
    }  # fmt: skip


def test_what_the_queue_does_not_list_does_not_run_whatever_accounting_says(commands):
    commands(("", 0), (SACCT, 0))
    assert states_of("24", "21_5", "99") == {"24": "lost", "21_5": "lost", "99": "lost"}


def test_accounting_has_to_do_if_the_queue_does_not_answer(commands):
    commands(("Unable to contact slurm controller", 1), (SACCT, 0), ("", 1))
    assert states_of("24", "21_5", "99") == {"24": "running", "21_5": "pending", "99": "unknown"}


def test_scontrol_has_to_do_if_neither_answers(commands):
    commands(("Socket timed out", 1), ("accounting storage is disabled", 1), (SHOW, 0))
    assert states_of("7_1", "7_2") == {"7_1": "failed", "7_2": "unknown"}


def test_without_any_command_every_state_is_unknown_and_says_why(commands):
    commands(None, None, None)
    found = job_states(["1"])["1"]
    assert (found.state, found.reason) == ("unknown", "squeue: No such file or directory")


def test_a_command_that_takes_too_long_counts_as_no_answer():
    answer = ask("sleep", "5", seconds=0.1)
    assert not answer.answered
    assert "did not answer" in answer.error


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        ("12", ["12"]), ("12_3", ["12_3"]), ("12_[5-7,9%2]", ["12_5", "12_6", "12_7", "12_9"]),
        ("12_[0-6:3]", ["12_0", "12_3", "12_6"]), ("12_[4]", ["12_4"]), ("12.batch", []), ("", []),
        ("12_[1,3,...]", []),
    ],
)  # fmt: skip
def test_ids_stand_for_jobs(text, jobs):
    assert expand(text) == jobs


def test_elements_of_an_array_are_named_together():
    jobs = ["3", "12_0", "12_2", "12_1", "12_7", "13_5", "3"]
    assert gathered(jobs) == ["3", "12_[0-2,7]", "13_[5]"]
    assert sorted(each for text in gathered(jobs) for each in expand(text)) == sorted(set(jobs))
