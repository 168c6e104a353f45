import os
from pathlib import Path

import pytest

from tokexp.ledger import checking
from tokexp.ledger.checking import Finding, doctor
from tokexp.ledger.claims import LEASE_S, Claim
from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import publish, set_aside, stage_output
from tokexp.ledger.records import Ledger
from tokexp.ledger.runs import RunRecord, save_run
from tokexp.ledger.workspace import Workspace

KEY = "ab" * 20


@pytest.fixture(autouse=True)
def _packages_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "version", {"torch": "2.13.0", "torchvision": "0.28.0"}.__getitem__)
    monkeypatch.setattr(checking, "LITTLE_SPACE", 0)


def fill(workspace: Workspace) -> Path:
    with EventLog(workspace.attempt("a1") / "events.jsonl") as log:
        log.append("started", key=KEY, kind="tokens")
        log.append("done", metrics={}, facts={}, seconds=1.0)
    with stage_output(workspace, "tokens", KEY, "a1") as folder:
        (folder / "x.bin").write_bytes(b"x" * 100)
        publish(folder, workspace.output("tokens", KEY), {})
    Ledger(workspace).ingest()
    return workspace.output("tokens", KEY)


def only(workspace: Workspace) -> Finding:
    (finding,) = doctor(workspace)
    return finding


def test_a_sound_workspace_and_one_that_is_not_there_have_no_findings(workspace: Workspace) -> None:
    assert doctor(workspace) == []
    assert not workspace.root.exists()
    fill(workspace)
    assert doctor(workspace) == []


def test_an_altered_output_is_an_error(workspace: Workspace) -> None:
    (fill(workspace) / "x.bin").write_bytes(b"y" * 100)
    finding = only(workspace)
    assert (finding.severity, finding.message) == ("error", "x.bin was altered: its digest differs")


def test_a_publication_that_was_cut_off_is_a_warning(workspace: Workspace) -> None:
    final = fill(workspace)
    (final / "DONE").rename(final / ".DONE")
    assert (only(workspace).severity, only(workspace).message) == ("warning", "its publication was cut off")


def test_altered_events_are_an_error_and_a_torn_line_is_not(workspace: Workspace) -> None:
    fill(workspace)
    path = workspace.attempt("a1") / "events.jsonl"
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(b'{"e":"pro')
    assert only(workspace).severity == "info"
    path.write_bytes(whole.replace(b'"kind":"tokens"', b'"kind":"tOkens"'))
    assert doctor(workspace)[0].severity == "error"
    assert "was altered or removed" in doctor(workspace)[0].message


def test_a_stale_claim_is_said(workspace: Workspace) -> None:
    Claim.take(workspace, KEY, "a1")
    path = workspace.work(KEY) / "claim"
    os.utime(path, (1, path.stat().st_mtime - LEASE_S - 10))
    assert "which is dead: no heartbeat for" in only(workspace).message


def test_ledger_trouble_is_found_without_repairing_it(workspace: Workspace) -> None:
    fill(workspace)
    workspace.ledger_file.write_bytes(b"garbage" * 1000)
    finding = only(workspace)
    assert (finding.severity, finding.about) == ("error", "ledger")
    assert "--rebuild" in finding.advice
    assert workspace.ledger_file.read_bytes() == b"garbage" * 1000


def test_a_missing_ledger_is_only_information(workspace: Workspace) -> None:
    fill(workspace)
    workspace.ledger_file.unlink()
    assert only(workspace).severity == "info"


def test_what_was_set_aside_is_said(workspace: Workspace) -> None:
    final = fill(workspace)
    (final / "x.bin").unlink()
    set_aside(final)
    assert "1 outputs were set aside" in only(workspace).message


def test_an_unreadable_run_record_is_an_error(workspace: Workspace) -> None:
    path = save_run(workspace, RunRecord(name="r", spec_hash="0" * 40))
    assert only(workspace).about == "tracking"
    path.write_text("{")
    assert (only(workspace).severity, only(workspace).about) == ("error", "run records")


def test_little_space_is_a_warning(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "LITTLE_SPACE", 1 << 62)
    assert (only(workspace).severity, only(workspace).about) == ("warning", "disk")


@pytest.mark.parametrize(
    ("torch", "vision", "severity", "said"),
    [
        ("2.12.0", "0.28.0", "warning", "were not built for each other"),
        ("2.13.0+cpu", "0.28.0", "info", "builds of different kinds"),
    ],
)
def test_versions_that_do_not_fit_are_said(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, torch: str, vision: str, severity: str, said: str
) -> None:
    monkeypatch.setattr(checking, "version", {"torch": torch, "torchvision": vision}.__getitem__)
    assert only(workspace).severity == severity
    assert said in only(workspace).message


def test_the_worst_comes_first(workspace: Workspace) -> None:
    final = fill(workspace)
    workspace.ledger_file.unlink()
    (final / "x.bin").unlink()
    assert [finding.severity for finding in doctor(workspace)] == ["error", "info"]
