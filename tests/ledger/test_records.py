import math
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.ledger.recording import KEY, OTHER, content, log_of, publish_one, run_whole, start
from tokexp.errors import InputError
from tokexp.ledger.claims import Claim
from tokexp.ledger.outputs import set_aside
from tokexp.ledger.records import Ledger, rebuild
from tokexp.ledger.workspace import Workspace


def test_an_attempt_is_summed_up_from_its_events(workspace: Workspace) -> None:
    run_whole(workspace, "a1", flops=1e9)
    ledger = Ledger(workspace)
    assert ledger.ingest() == 8
    (attempt,) = ledger.attempts(KEY)
    assert (attempt.id, attempt.key, attempt.kind, attempt.seed) == ("a1", KEY, "pretrain", 0)
    assert (attempt.state, attempt.seconds, attempt.step) == ("done", 3.0, 4)
    assert (attempt.done, attempt.total, attempt.unit, attempt.rate) == (5, 5, "steps", 2.0)
    assert (attempt.metrics, attempt.facts) == ({"top1": 0.5}, {"flops": 1e9})
    assert (attempt.inputs, attempt.versions) == ({"tokens": OTHER}, {"torch": "2.13"})
    assert ledger.durations("pretrain") == [(1e9, 3.0)]
    assert ledger.durations("tokens") == []
    assert ledger.metrics(KEY)["loss"] == [(step, 1.0 - 0.1 * step) for step in range(5)]


def test_an_empty_workspace_has_an_empty_ledger_and_reading_it_writes_nothing(workspace: Workspace) -> None:
    ledger = Ledger(workspace)
    assert ledger.attempts() == []
    assert ledger.metrics(KEY) == {}
    assert ledger.stage_state(KEY) == "planned"
    assert not workspace.root.exists()


def test_each_event_counts_once_however_often_it_is_ingested(workspace: Workspace) -> None:
    run_whole(workspace, "a1")
    assert Ledger(workspace).ingest() == 8
    before = content(workspace)
    assert Ledger(workspace).ingest() == 0
    assert content(workspace) == before


def test_incremental_reading_and_a_rebuild_give_the_same_ledger(workspace: Workspace) -> None:
    ledger = Ledger(workspace)
    with log_of(workspace, "a1") as one, log_of(workspace, "a2") as two:
        for log in (one, two):
            start(log)
        for step in range(20):
            (one, two)[step % 2].append("metrics", step=step, values={"loss": 1.0 / (1 + step), "bad": math.nan})
            ledger.ingest()
        one.append("failed", cause="nan", message="the loss is not a number")
        ledger.ingest()
    before = content(workspace)
    assert rebuild(workspace) == 23
    assert content(workspace) == before
    assert len(before["metrics"]) == 40


def test_where_attempts_overlap_the_newer_one_counts(workspace: Workspace) -> None:
    with log_of(workspace, "a1") as log:
        start(log)
        for step in (1, 2, 3):
            log.append("metrics", step=step, values={"loss": 1.0})
    with log_of(workspace, "a2") as log:
        start(log)
        log.append("resumed", step=2)
        for step in (3, 4):
            log.append("metrics", step=step, values={"loss": 0.5})
        log.append("done", metrics={}, facts={"flops": 7.0}, seconds=1.0)
    ledger = Ledger(workspace)
    ledger.ingest()
    assert ledger.metrics(KEY) == {"loss": [(1, 1.0), (2, 1.0), (3, 0.5), (4, 0.5)]}
    assert ledger.attempts(KEY)[1].resumed == 2
    assert ledger.durations("pretrain") == []  # a resumed attempt did only a part of the work


def test_an_attempt_that_is_started_again_runs_again(workspace: Workspace) -> None:
    with log_of(workspace, "a1") as log:
        start(log)
        log.append("stopped", reason="signal")
    ledger = Ledger(workspace)
    ledger.ingest()
    assert ledger.attempts()[0].state == "stopped"
    with log_of(workspace, "a1") as log:
        start(log)
    claim = Claim.take(workspace, KEY, "a1")
    ledger.ingest()
    (attempt,) = ledger.attempts()
    assert (attempt.state, attempt.restarts, attempt.cause, attempt.ended) == ("running", 1, None, None)
    assert claim is not None


def test_a_running_attempt_without_a_live_claim_is_lost(workspace: Workspace) -> None:
    with log_of(workspace, "a1") as log:
        start(log)
    ledger = Ledger(workspace)
    ledger.ingest()
    claim = Claim.take(workspace, KEY, "a1")
    assert claim is not None
    assert (ledger.attempts()[0].state, ledger.stage_state(KEY)) == ("running", "running")
    claim.release()
    assert (ledger.attempts()[0].state, ledger.stage_state(KEY)) == ("lost", "lost")


@pytest.mark.parametrize(
    ("event", "fields", "state"),
    [
        ("failed", {"cause": "code", "message": "x"}, "failed"),
        ("stopped", {"reason": "signal"}, "stopped"),
        ("stopped", {"reason": "claimed"}, "planned"),
    ],
)
def test_the_end_of_an_attempt_is_the_state_of_its_stage(workspace: Workspace, event: str, fields, state: str) -> None:
    with log_of(workspace, "a1") as log:
        start(log)
        log.append(event, **fields)
    ledger = Ledger(workspace)
    ledger.ingest()
    assert ledger.stage_state(KEY) == state


def test_the_output_decides_whether_a_stage_is_done(workspace: Workspace) -> None:
    run_whole(workspace, "a1")
    ledger = Ledger(workspace)
    ledger.ingest()
    assert ledger.stage_state(KEY) == "planned"  # its output was removed
    final = publish_one(workspace)
    assert ledger.stage_states([KEY, OTHER]) == {KEY: "done", OTHER: "planned"}
    (final / "manifest.json").write_text("{}")
    assert ledger.stage_state(KEY) == "damaged"
    set_aside(final)
    assert ledger.stage_state(KEY) == "planned"


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwrite(path: Path) -> None:
    path.write_bytes(b"\0garbage" * 1000)


def _zero_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096 : len(data) - 4096] = bytes(len(data) - 8192)
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _remove(path: Path) -> None:
    path.unlink()


def _other_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("damage", [_cut, _overwrite, _zero_the_middle, _empty, _remove, _other_version])
def test_a_damaged_ledger_is_rebuilt_from_the_event_files(workspace: Workspace, damage) -> None:
    for number in range(30):
        run_whole(workspace, f"a{number}", f"{number:040x}")
    Ledger(workspace).ingest()
    before = content(workspace)
    damage(workspace.ledger_file)
    ledger = Ledger(workspace)
    ledger.ingest()
    assert content(workspace) == before
    assert len(ledger.attempts()) == 30
    assert [text.endswith("rebuilt from the event files") for text in ledger.problems] == (
        [] if damage in (_empty, _remove) else [True]
    )


@pytest.mark.parametrize("damage", [_cut, _overwrite, _other_version])
def test_reading_a_damaged_ledger_rebuilds_it_too(workspace: Workspace, damage) -> None:
    for number in range(30):
        run_whole(workspace, f"a{number}", f"{number:040x}")
    Ledger(workspace).ingest()
    damage(workspace.ledger_file)
    ledger = Ledger(workspace)
    assert len(ledger.attempts()) == 30
    assert len(ledger.problems) == 1


def test_a_value_that_was_altered_in_the_ledger_is_found_by_comparing(workspace: Workspace) -> None:
    run_whole(workspace, "a1")
    ledger = Ledger(workspace)
    ledger.ingest()
    assert ledger.compare() == []
    with closing(sqlite3.connect(workspace.ledger_file)) as connection, connection:
        connection.execute("UPDATE metrics SET value = 0.99 WHERE step = 4 AND name = 'loss'")
    assert ledger.compare() == ["its metrics of the attempt a1 differ from the events"]
    rebuild(workspace)
    assert ledger.compare() == []


def test_a_journal_of_a_broken_ledger_does_not_reach_the_new_one(workspace: Workspace) -> None:
    run_whole(workspace, "a1")
    Ledger(workspace).ingest()
    before = content(workspace)
    journal = workspace.ledger_file.with_name("ledger.sqlite-journal")
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0\0\0\1" * 1000)
    rebuild(workspace)
    assert not journal.exists()
    assert content(workspace) == before


def test_events_behind_an_altered_line_do_not_count_and_are_said(workspace: Workspace) -> None:
    run_whole(workspace, "a1")
    path = workspace.attempt("a1") / "events.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"step":3', b'"step":9'))
    ledger = Ledger(workspace)
    assert ledger.ingest() == 4
    assert ledger.attempts()[0].step == 2
    assert "was altered or removed" in ledger.trouble()[0]


def test_events_that_vanish_after_they_were_read_are_said_and_do_not_count(workspace: Workspace) -> None:
    run_whole(workspace, "a1")
    ledger = Ledger(workspace)
    ledger.ingest()
    path = workspace.attempt("a1") / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]))
    assert ledger.ingest() == 3
    assert "events were removed" in ledger.trouble()[0]
    assert ledger.metrics(KEY)["loss"] == [(0, 1.0), (1, 0.9)]
    before = content(workspace)
    rebuild(workspace)
    assert content(workspace) == before


def test_a_line_that_is_still_being_written_is_read_later_and_not_called_trouble(workspace: Workspace) -> None:
    run_whole(workspace, "a1")
    path = workspace.attempt("a1") / "events.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    ledger = Ledger(workspace)
    assert ledger.ingest() == 7
    path.write_bytes(whole)
    assert ledger.ingest() == 1
    assert ledger.trouble() == []


def test_a_ledger_that_cannot_be_used_is_an_error_that_says_so(workspace: Workspace) -> None:
    run_whole(workspace, "a1")
    workspace.ledger_file.mkdir()
    with pytest.raises(InputError, match="cannot be used now"):
        Ledger(workspace).ingest()
