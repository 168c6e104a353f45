import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ledger.processes import run_script, start_script
from tokexp.errors import InputError
from tokexp.ledger.claims import LEASE_S, Claim, claim_lock, holder
from tokexp.ledger.locks import file_lock
from tokexp.ledger.workspace import Workspace

KEY = "ab" * 20


def age(workspace: Workspace, seconds: float) -> None:
    path = workspace.work(KEY) / "claim"
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_a_held_key_cannot_be_taken_and_a_released_one_can(workspace: Workspace) -> None:
    claim = Claim.take(workspace, KEY, "a1")
    assert claim is not None
    assert Claim.take(workspace, KEY, "a2") is None
    claim.release()
    assert holder(workspace, KEY) is None
    assert Claim.take(workspace, KEY, "a2") is not None


def test_the_holder_is_known(workspace: Workspace) -> None:
    Claim.take(workspace, KEY, "a1")
    info = holder(workspace, KEY)
    assert info is not None
    assert (info.host, info.pid, info.attempt, info.alive) == (socket.gethostname(), os.getpid(), "a1", True)


RACE = """
import sys, time
from pathlib import Path
from tokexp.ledger.claims import Claim
from tokexp.ledger.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
for line in sys.stdin:
    print("won" if Claim.take(workspace, line.strip(), "attempt-" + sys.argv[2]) else "lost", flush=True)
"""


def test_of_two_processes_that_race_for_a_claim_exactly_one_wins(workspace: Workspace) -> None:
    racers = [start_script(RACE, workspace.root, number) for number in (1, 2)]
    outcomes = []
    for number in range(100):
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write(f"{number:040x}\n")
            racer.stdin.flush()
        outcomes.append(sorted(racer.stdout.readline().strip() for racer in racers if racer.stdout))
    for racer in racers:
        racer.communicate(timeout=60)
    assert outcomes == [["lost", "won"]] * 100


STEAL = """
import os, sys
from pathlib import Path
from tokexp.ledger.claims import Claim, holder
from tokexp.ledger.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
keys = [f"{number:040x}" for number in range(60)]
for key in keys:
    Claim.take(workspace, key, "old")
    path = workspace.work(key) / "claim"
    os.utime(path, (1, 1))
(start, go), (wait, over) = os.pipe(), os.pipe()
children, reads = [], []
for name in ("x", "y", "z"):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(over)
        os.read(start, 1)
        won = [key for key in keys if Claim.take(workspace, key, name)]
        os.write(write, (" ".join(won) + " ").encode())
        os.read(wait, 1)  # stay alive until all are through: a dead winner may be stolen from
        os._exit(0)
    children.append(child)
    reads.append(read)
os.write(go, b"...")
won = [os.read(read, 1 << 16).decode().split() for read in reads]
os.close(over)
for child in children:
    os.waitpid(child, 0)
assert sorted(sum(won, [])) == keys, won
print(sum(bool(part) for part in won))
"""


def test_of_three_processes_that_steal_a_stale_claim_exactly_one_wins(workspace: Workspace) -> None:
    assert int(run_script(STEAL, workspace.root)) >= 1


HOLD = """
import sys
from pathlib import Path
from tokexp.ledger.claims import Claim
from tokexp.ledger.workspace import Workspace
print(bool(Claim.take(Workspace(Path(sys.argv[1])), sys.argv[2], "victim")), flush=True)
sys.stdin.read()
"""


def test_the_claim_of_a_killed_process_is_stolen_at_once(workspace: Workspace) -> None:
    child = start_script(HOLD, workspace.root, KEY)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "True"
    assert Claim.take(workspace, KEY, "thief") is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    info = holder(workspace, KEY)
    assert info is not None
    assert not info.alive
    assert "is gone" in info.why
    assert Claim.take(workspace, KEY, "thief") is not None


def test_a_killed_process_that_nobody_has_waited_for_counts_as_gone(workspace: Workspace) -> None:
    child = start_script(HOLD, workspace.root, KEY)
    assert child.stdout is not None
    child.stdout.readline()
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the process table
    assert Claim.take(workspace, KEY, "thief") is not None
    child.wait()


def test_a_process_number_that_was_given_to_another_process_does_not_keep_a_claim(workspace: Workspace) -> None:
    Claim.take(workspace, KEY, "a1")
    path = workspace.work(KEY) / "claim"
    owner = json.loads(path.read_text())
    path.write_text(json.dumps({**owner, "start": owner["start"] - 1000}))
    assert Claim.take(workspace, KEY, "a2") is not None


def test_a_claim_of_another_machine_is_stale_only_after_the_lease(workspace: Workspace) -> None:
    Claim.take(workspace, KEY, "a1")
    path = workspace.work(KEY) / "claim"
    owner = json.loads(path.read_text())
    path.write_text(json.dumps({**owner, "host": "elsewhere", "pid": 1 << 30}))
    age(workspace, LEASE_S - 20)
    assert Claim.take(workspace, KEY, "a2") is None
    age(workspace, 40)
    assert Claim.take(workspace, KEY, "a2") is not None


def test_a_beat_renews_the_lease(workspace: Workspace) -> None:
    claim = Claim.take(workspace, KEY, "a1")
    assert claim is not None
    age(workspace, LEASE_S + 10)
    assert claim.beat()
    assert Claim.take(workspace, KEY, "a2") is None


def test_an_owner_whose_claim_was_stolen_learns_it_and_cannot_release_it(workspace: Workspace) -> None:
    slow = Claim.take(workspace, KEY, "a1")
    assert slow is not None
    age(workspace, LEASE_S + 10)
    thief = Claim.take(workspace, KEY, "a2")
    assert thief is not None
    assert not slow.beat()
    slow.release()
    info = holder(workspace, KEY)
    assert info is not None
    assert info.attempt == "a2"
    assert thief.beat()


def test_a_claim_cut_off_while_it_was_written_is_kept_for_the_lease_only(workspace: Workspace) -> None:
    Claim.take(workspace, KEY, "a1")
    (workspace.work(KEY) / "claim").write_text('{"host": "')
    assert Claim.take(workspace, KEY, "a2") is None
    age(workspace, LEASE_S + 10)
    assert Claim.take(workspace, KEY, "a2") is not None


def test_a_claim_as_a_context_is_released_at_its_end(workspace: Workspace) -> None:
    claim = Claim.take(workspace, KEY, "a1")
    assert claim is not None
    with claim:
        assert holder(workspace, KEY) is not None
    assert holder(workspace, KEY) is None


def test_a_lock_held_too_long_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with file_lock(path), pytest.raises(InputError, match="held by another process"), file_lock(path, timeout_s=0.05):
        pytest.fail("two holders")


def test_a_lock_whose_file_was_deleted_by_its_holder_excludes_still(tmp_path: Path) -> None:
    text = (
        "import sys, time; from pathlib import Path; from tokexp.ledger.locks import file_lock\n"
        "path, count = Path(sys.argv[1]), Path(sys.argv[2])\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for _ in range(300):\n"
        "    with file_lock(path):\n"
        "        count.write_text(str(int(count.read_text()) + 1)); path.unlink()\n"
    )
    (tmp_path / "count").write_text("0")
    children = [start_script(text, tmp_path / "lock", tmp_path / "count") for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
    assert (tmp_path / "count").read_text() == "600"


def test_a_lock_won_on_a_file_that_was_deleted_meanwhile_is_not_taken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real, calls = tmp_path / "lock", fcntl.flock, []

    def delete_first(descriptor: int, operation: int) -> None:
        if not calls:
            path.unlink()
        calls.append(descriptor)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    with file_lock(path):
        assert path.exists()
    assert len(calls) == 2


def test_a_claim_loads_nothing_heavy() -> None:
    text = "import tokexp.ledger.claims, sys; print({'torch', 'numpy', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_lock_lies_beside_the_claim(workspace: Workspace) -> None:
    assert claim_lock(workspace, KEY).parent == workspace.work(KEY)
