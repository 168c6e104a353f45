import json
import sys
import time
from itertools import pairwise
from pathlib import Path

from tokexp.launch.local import LocalLauncher
from tokexp.launch.slots import Slots
from tokexp.spec.resources import Resources

REPORT = """
import json, os, sys, time
names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "RANK", "WORLD_SIZE", "MASTER_PORT")
with open(os.path.join(sys.argv[1], "seen.json"), "a") as file:
    file.write(json.dumps({**{n: os.environ.get(n) for n in names}, "sid": os.getsid(0), "t": time.time()}) + "\\n")
time.sleep(float(os.environ.get("TEST_SLEEP", "0")))
"""


def run(launcher: LocalLauncher, tmp_path: Path, *asked: Resources) -> list[list[dict]]:
    folders = [tmp_path / f"attempt-{number}" for number in range(len(asked))]
    for folder, resources in zip(folders, asked, strict=True):
        folder.mkdir()
        launcher.submit(folder, resources)
    ended, limit = 0, time.monotonic() + 20
    while ended < len(asked) and time.monotonic() < limit:
        ended += len(launcher.poll())
        time.sleep(0.01)
    return [[json.loads(line) for line in (folder / "seen.json").read_text().splitlines()] for folder in folders]


def launcher(**options):
    return LocalLauncher(command=(sys.executable, "-c", REPORT), **options)


def test_an_attempt_sees_its_gpus_and_no_others(tmp_path):
    seen = run(launcher(slots=Slots(8, ("4", "7"))), tmp_path, Resources(cpus=3, gpus=1), Resources(cpus=1, gpus=1))
    assert [attempt[0]["CUDA_VISIBLE_DEVICES"] for attempt in seen] == ["4", "7"]
    assert [attempt[0]["OMP_NUM_THREADS"] for attempt in seen] == ["3", "1"]


def test_an_attempt_that_asks_for_no_gpu_finds_the_variable_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    seen = run(launcher(slots=Slots(8, ("5",))), tmp_path, Resources(cpus=1), Resources(cpus=1, device="cpu"))
    assert [attempt[0]["CUDA_VISIBLE_DEVICES"] for attempt in seen] == ["5", ""]


def test_every_gpu_of_an_attempt_has_its_own_process_in_one_group(tmp_path):
    [members] = run(launcher(slots=Slots(8, ("0", "1"))), tmp_path, Resources(cpus=1, gpus=2))
    assert sorted(member["RANK"] for member in members) == ["0", "1"]
    assert {member["WORLD_SIZE"] for member in members} == {"2"}
    assert len({member["MASTER_PORT"] for member in members}) == 1


def test_an_attempt_without_gpus_has_as_many_processes_as_it_asks_for(tmp_path):
    [members] = run(launcher(slots=Slots(8, ())), tmp_path, Resources(cpus=2, processes=3))
    assert sorted(member["RANK"] for member in members) == ["0", "1", "2"]
    assert {(member["WORLD_SIZE"], member["OMP_NUM_THREADS"]) for member in members} == {("3", "2")}


def ends_of_two_processes(script: str, tmp_path: Path) -> list[int]:
    """Return the exit codes that are told of an attempt of two processes; the script tells them apart by RANK."""
    folder = tmp_path / "attempt"
    folder.mkdir()
    local = LocalLauncher(command=(sys.executable, "-c", script), slots=Slots(8, ()))
    local.submit(folder, Resources(cpus=1, processes=2))
    ended, limit = [], time.monotonic() + 20
    while not ended and time.monotonic() < limit:
        ended = local.poll()
        time.sleep(0.02)
    return [each.exit_code for each in ended]


def test_the_first_process_may_go_on_alone_when_the_others_have_done_their_part(tmp_path, monkeypatch):
    monkeypatch.setattr("tokexp.launch.local.GRACE", 0.1)
    script = "import os, time; time.sleep(1.5 if os.environ['RANK'] == '0' else 0)"
    assert ends_of_two_processes(script, tmp_path) == [0]


def test_a_process_that_failed_ends_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr("tokexp.launch.local.GRACE", 0.1)
    script = "import os, sys, time; time.sleep(60) if os.environ['RANK'] == '0' else sys.exit(1)"
    assert ends_of_two_processes(script, tmp_path) == [-9]


def test_attempts_are_sessions_of_their_own(tmp_path):
    seen = run(launcher(slots=Slots(8, ())), tmp_path, Resources(cpus=1), Resources(cpus=1))
    assert len({attempt[0]["sid"] for attempt in seen}) == 2


def test_no_more_attempts_run_at_once_than_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_SLEEP", "0.3")
    seen = run(launcher(slots=Slots(8, ()), jobs=1), tmp_path, *[Resources(cpus=1)] * 3)
    times = sorted(attempt[0]["t"] for attempt in seen)
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.3


def test_a_large_attempt_is_not_passed_for_ever_by_small_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("TEST_SLEEP", "0.02")
    asked = [Resources(cpus=1), Resources(cpus=2), *[Resources(cpus=1)] * 40]
    seen = run(launcher(slots=Slots(2, ())), tmp_path, *asked)
    order = sorted(range(len(seen)), key=lambda number: seen[number][0]["t"])
    assert order.index(1) < 25


def test_too_large_an_attempt_is_warned_of_once(tmp_path):
    said = []
    run(launcher(slots=Slots(1, ()), warn=said.append), tmp_path, Resources(cpus=4), Resources(cpus=4))
    assert len(said) == 1
    assert "4 CPU cores (there are 1)" in said[0]
