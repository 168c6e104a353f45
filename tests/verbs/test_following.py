import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.recorded import key_of, recorded_run, run_all, workspace_at
from tokexp.errors import DamagedError, InputError
from tokexp.ledger import database, records
from tokexp.ledger.runs import load_run
from tokexp.ledger.workspace import Workspace
from tokexp.verbs import following, showing


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path / "w")


def test_a_run_record_that_cannot_be_read_is_told_and_not_taken_for_none(workspace, capsys):
    record = recorded_run(workspace)
    (workspace.runs / f"{record.ref}.json").write_text("{")
    assert following.status(None, workspace.root, json=False) == 0
    shown = capsys.readouterr()
    assert "no runs yet" not in shown.out
    assert f"{record.ref}.json is unreadable" in shown.err
    following.status(None, workspace.root, json=True)
    assert "unreadable" in json.loads(capsys.readouterr().out)["problems"][0]
    with pytest.raises(InputError, match=r"no run 'recorded' can be read: .*run its spec again"):
        load_run(workspace, "recorded")
    with pytest.raises(DamagedError):
        load_run(workspace, record.ref)


def test_logs_and_cancel_answer_with_the_whole_ref(workspace, capsys):
    record = recorded_run(workspace)
    for verb in (lambda: following.logs("recorded", workspace.root, False, json=True),
                 lambda: following.cancel("recorded", workspace.root, json=True)):  # fmt: skip
        assert verb() == 0
        assert json.loads(capsys.readouterr().out)["ref"] == record.ref


def test_logs_of_what_has_not_been_started_say_so(workspace, capsys):
    record = recorded_run(workspace)
    assert following.logs("recorded", workspace.root, follow=False, json=False) == 0
    assert capsys.readouterr().err == f"no stage of {record.ref} has been started yet\n"


def test_a_state_is_the_same_word_for_all_runs_and_for_one(workspace, capsys):
    record = recorded_run(workspace, seeds=(0,))
    following.status(None, workspace.root, json=True)
    counted = json.loads(capsys.readouterr().out)["runs"][0]["states"]
    following.status(record.ref, workspace.root, json=True)
    states = [stage["state"] for stage in json.loads(capsys.readouterr().out)["stages"]]
    assert counted == {"to do": len(states)}
    assert set(states) == {"to do"}


def test_events_are_told_in_words():
    assert following._event_text({"e": "resumed", "step": 7}) == "resumed at step 7"
    assert following._event_text({"e": "done", "seconds": 75.0}) == "done in 1 min 15 s"
    assert following._event_text({"e": "stopped", "reason": "cancel"}) == "stopped: cancel"


@pytest.mark.parametrize(
    ("states", "patience"),
    [
        ({"done"}, 0.0),
        ({"failed", "done"}, 0.0),
        ({"done", "running"}, None),
        ({"planned"}, None),
        ({"done", "planned"}, following._BETWEEN_SECONDS),
        ({"done", "stopped", "planned"}, following._STOPPED_SECONDS),
    ],
)
def test_following_ends_at_once_only_when_nothing_can_follow(workspace, monkeypatch, states, patience):
    monkeypatch.setattr(records.Ledger, "stage_states", lambda self, keys: dict(enumerate(states)))
    assert following._patience(workspace, []) == patience


def test_logs_are_followed_across_the_pause_between_two_stages(workspace, monkeypatch, capsys):
    recorded_run(workspace, seeds=(0,))
    answers = iter([{"done", "planned"}, {"done", "planned"}, {"running"}, {"done"}])
    rounds = []

    def states(self, keys):
        rounds.append(next(answers))
        return dict(enumerate(rounds[-1]))

    monkeypatch.setattr(records.Ledger, "stage_states", states)
    monkeypatch.setattr(following, "_FOLLOW_SECONDS", 0.0)
    key = key_of("tokens")
    folder = workspace.attempts / f"{key[:10]}-001"
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("a word\n")
    assert following.logs("recorded", workspace.root, follow=True, json=False) == 0
    assert len(rounds) == 4
    assert "tokens| a word" in capsys.readouterr().out


def test_status_and_report_do_without_a_ledger_that_cannot_be_written(workspace, monkeypatch, tmp_path, capsys):
    record = recorded_run(workspace, seeds=(0,))
    run_all(workspace, record)
    workspace.ledger_file.unlink(missing_ok=True)
    workspace.ledger_file.mkdir()
    assert following.status(record.ref, workspace.root, json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert {stage["state"] for stage in found["stages"]} == {"done"}
    assert any("cannot be used now" in problem for problem in found["problems"])
    assert showing.report(record.ref, workspace.root, tmp_path / "r.html", json=False) == 0
    with pytest.raises(InputError, match="is a folder; move it away"):
        records.rebuild(workspace)


def test_a_damaged_ledger_on_a_full_disk_is_read_from_the_events(workspace, monkeypatch):
    record = recorded_run(workspace, seeds=(0,))
    run_all(workspace, record)
    workspace.ledger_file.write_bytes(b"no database" * 100)

    def full(*_):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(records.database, "replace", full)
    ledger = records.Ledger(workspace)
    with pytest.raises(InputError, match="disk is full"):
        ledger.ingest()
    ledger.refresh()
    assert ledger.attempts(key_of("pretrain", 0))[0].state == "done"


def test_a_report_that_cannot_be_written_names_the_file(workspace, tmp_path):
    record = recorded_run(workspace, seeds=(0,))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file/r\.csv: .*--output"):
        showing.report(record.ref, workspace.root, tmp_path / "file" / "r.csv", json=False)


def test_a_full_disk_while_the_ledger_is_written_is_not_taken_for_damage():
    def fill(connection: sqlite3.Connection) -> None:
        with database.transaction(connection):
            connection.execute("ROLLBACK")  # as SQLite does by itself
            raise sqlite3.OperationalError("database or disk is full")

    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as memory,
        pytest.raises(sqlite3.OperationalError, match="disk is full"),
    ):
        fill(memory)
