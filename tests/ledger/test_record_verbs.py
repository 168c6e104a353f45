import json
from pathlib import Path

import numpy as np
import pytest

from tokexp.errors import InputError
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


@pytest.fixture
def store(tmp_path: Path) -> Path:
    from tokexp.spec.storage import StorageSpec
    from tokexp.storage.store import write_store

    path = tmp_path / "train.tokens"
    indices = np.arange(6 * 16).reshape(6, 4, 4) % 8
    codes = np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2)
    codec = StorageSpec.model_validate({}).codec
    write_store(path, indices, np.array([0, 1, 2, 0, 1, 2]), codes, codec, metric="euclidean", num_classes=3, facts={})
    return path


def test_store_info_counts_every_byte(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert records.store_info(store, json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["images"], said["grid"], said["codes"], said["classes"]) == (6, [4, 4], 8, 3)
    assert records.store_info(store, json=False) == 0
    assert "images" in capsys.readouterr().out


def test_store_export_writes_the_same_tokens(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.npz"
    assert records.store_export(store, target, json=True) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 6
    with np.load(target, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["indices"], np.arange(6 * 16).reshape(6, 4, 4) % 8)
        assert arrays["labels"].tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(InputError, match="exists already"):
        records.store_export(store, target, json=True)


def test_store_verify_finds_an_altered_byte(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert records.store_verify(store, json=True) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True
    data = bytearray(store.read_bytes())
    data[-5] ^= 1
    store.write_bytes(data)
    assert records.store_verify(store, json=True) == 1
    assert json.loads(capsys.readouterr().out)["sound"] is False


def test_a_store_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no token store"):
        records.store_info(tmp_path / "none.tokens", json=True)
