"""The ledger under several processes, and killed while it is written."""

import pytest

from tests.ledger.processes import KILL_AT_EVERY_CALL, run_script, start_script
from tests.ledger.recording import KEY, content, run_whole
from tokexp.ledger.records import Ledger, rebuild
from tokexp.ledger.workspace import Workspace

WRITER = """
import sys
from pathlib import Path
from tokexp.ledger.events import EventLog
with EventLog(Path(sys.argv[1]) / "attempts" / f"a{sys.argv[2]}" / "events.jsonl") as log:
    key = f"{int(sys.argv[2]):040x}"
    log.append("started", attempt=f"a{sys.argv[2]}", key=key, kind="pretrain", label="", seed=0, inputs={}, pid=1,
               host="h", versions={})
    for step in range(300):
        log.append("metrics", step=step, values={"loss": step / 7})
    log.append("done", metrics={}, facts={}, seconds=1.0)
"""


def test_sixteen_processes_append_while_one_ingests_and_each_event_counts_once(workspace: Workspace) -> None:
    writers = [start_script(WRITER, workspace.root, number) for number in range(16)]
    ledger, total = Ledger(workspace), 0
    while any(writer.poll() is None for writer in writers):
        total += ledger.ingest()
    total += ledger.ingest()
    assert [writer.returncode for writer in writers] == [0] * 16
    assert total == 16 * 302
    assert ledger.trouble() == []
    assert {len(ledger.metrics(f"{number:040x}")["loss"]) for number in range(16)} == {300}
    before = content(workspace)
    rebuild(workspace)
    assert content(workspace) == before


INGEST = """
import sys
from pathlib import Path
from tokexp.ledger.records import Ledger
from tokexp.ledger.workspace import Workspace
total = 0
ledger = Ledger(Workspace(Path(sys.argv[1])))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(20):
    total += ledger.ingest()
print(total)
"""


def test_of_two_processes_that_ingest_at_once_each_event_is_taken_by_one(workspace: Workspace) -> None:
    for number in range(20):
        run_whole(workspace, f"a{number}", f"{number:040x}")
    children = [start_script(INGEST, workspace.root) for _ in range(2)]
    for child in children:
        assert child.stdout is not None
        child.stdout.readline()
    outputs = [child.communicate("go\n", timeout=60)[0] for child in children]
    assert sum(map(int, outputs)) == 160


KILLED_INGEST = (
    KILL_AT_EVERY_CALL
    + """
from tokexp.ledger.records import Ledger, rebuild
from tokexp.ledger.workspace import Workspace
workspace, what = Workspace(Path(sys.argv[1])), sys.argv[2]
def look(point, died):
    assert len(Ledger(workspace).attempts()) in (0, 5)
    Ledger(workspace).ingest()
    assert len(Ledger(workspace).attempts()) == 5
    assert Ledger(workspace).compare() == []
    workspace.ledger_file.unlink()
def work(point):
    Ledger(workspace).ingest() if what == "ingest" else rebuild(workspace)
print(die_at_each_point(work, look))
"""
)


@pytest.mark.parametrize("what", ["ingest", "rebuild"])
def test_a_kill_while_the_ledger_is_written_loses_nothing(workspace: Workspace, what: str) -> None:
    for number in range(5):
        run_whole(workspace, f"a{number}", f"{number:040x}")
    assert int(run_script(KILLED_INGEST, workspace.root, what)) > 1


HALF_WRITTEN = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("PRAGMA cache_spill = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE metrics SET value = 7")
connection.execute("UPDATE offsets SET offset = 7")
for number in range(3000):
    connection.execute("INSERT INTO problems VALUES (?, ?)", (str(number), "x" * 500))
assert os.path.exists(sys.argv[1] + "-journal")
print("half", flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_killed_in_its_transaction_leaves_the_ledger_as_it_was(workspace: Workspace) -> None:
    run_whole(workspace, "a1")
    Ledger(workspace).ingest()
    before = content(workspace)
    child = start_script(HALF_WRITTEN, workspace.ledger_file)
    assert child.communicate(timeout=60)[0] == "half\n"
    assert workspace.ledger_file.with_name("ledger.sqlite-journal").exists()
    ledger = Ledger(workspace)
    assert len(ledger.metrics(KEY)["loss"]) == 5
    assert ledger.problems == []
    assert content(workspace) == before
