import json
from pathlib import Path

import pytest

from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import publish, stage_output
from tokexp.ledger.records import Ledger
from tokexp.ledger.workspace import Workspace
from tokexp.verbs import records

KEY = "ab" * 20


def fill(workspace: Workspace) -> Path:
    with EventLog(workspace.attempt("a1") / "events.jsonl") as log:
        log.append("started", key=KEY, kind="tokens")
    with stage_output(workspace, "tokens", KEY, "a1") as folder:
        (folder / "x.bin").write_bytes(b"x" * 100)
        publish(folder, workspace.output("tokens", KEY), {})
    return workspace.output("tokens", KEY)


def test_gc_prints_one_json_object_with_what_goes(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    final = fill(workspace)
    assert records.gc(workspace.root, dry_run=True, json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert [item["path"] for item in said["removed"]] == [str(final)]
    assert said["bytes"] == said["removed"][0]["bytes"] > 100
    assert final.exists()


def test_gc_says_in_words_what_went(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    final = fill(workspace)
    assert records.gc(workspace.root, dry_run=False, json=False) == 0
    printed = capsys.readouterr().out
    assert f"store/tokens/ab/{KEY}" in printed
    assert "1 items" in printed
    assert not final.exists()


def test_doctor_ends_with_one_if_something_is_damaged(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    final = fill(workspace)
    assert records.doctor(workspace.root, rebuild=False, json=True) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True
    (final / "x.bin").write_bytes(b"[y]")
    assert records.doctor(workspace.root, rebuild=False, json=True) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["findings"][0]["message"] == "x.bin has 3 bytes instead of 100"
    assert records.doctor(workspace.root, rebuild=False, json=False) == 1
    printed = capsys.readouterr().out
    assert "x.bin" in printed
    assert "needs attention" in printed


def test_doctor_rebuilds_the_ledger_when_asked(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    fill(workspace)
    workspace.ledger_file.write_bytes(b"garbage" * 1000)
    assert records.doctor(workspace.root, rebuild=True, json=True) == 0
    assert json.loads(capsys.readouterr().out)["rebuilt_from"] == 1
    assert len(Ledger(workspace).attempts()) == 1
