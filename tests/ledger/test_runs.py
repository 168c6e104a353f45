from pathlib import Path

import pytest

from tokexp.errors import DamagedError, InputError
from tokexp.ledger.runs import RunNode, RunRecord, list_runs, load_run, read_runs, save_run
from tokexp.ledger.workspace import Workspace

KEY = "ab" * 20


def record(name: str, spec_hash: str, created: float, spec_file: str = "") -> RunRecord:
    node = RunNode(key=KEY, kind="tokens", name="tokens", inputs={}, label="x", payload={"kind": "tokens"})
    return RunRecord(
        name=name, spec_hash=spec_hash, created=created, spec_file=spec_file, spec_text="schema: 1", nodes=(node,),
        resolved={"seeds": [0, 1]}, sources={"seeds": "default"}, seeds={0: {"tokens": KEY}, 1: {"tokens": KEY}},
    )  # fmt: skip


@pytest.fixture
def runs(workspace: Workspace, tmp_path: Path) -> list[RunRecord]:
    spec_file = str(tmp_path / "seit.yaml")
    records = [
        record("seit", "aaaa1111" * 5, 1.0, spec_file),
        record("seit", "bbbb2222" * 5, 3.0, spec_file),
        record("mapet", "cccc3333" * 5, 2.0, str(tmp_path / "mapet.yaml")),
    ]
    for item in records:
        save_run(workspace, item)
    return records


def test_a_run_comes_back_as_it_was_saved(workspace: Workspace, runs: list[RunRecord]) -> None:
    assert load_run(workspace, "seit-aaaa1111") == runs[0]
    assert runs[0].seeds[1]["tokens"] == KEY
    assert runs[0].keys() == {KEY}


def test_a_name_finds_its_newest_run(workspace: Workspace, runs: list[RunRecord]) -> None:
    assert load_run(workspace, "seit") == runs[1]


def test_a_spec_file_finds_its_newest_run_however_the_path_is_written(
    workspace: Workspace, runs: list[RunRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_run(workspace, str(tmp_path / "seit.yaml")) == runs[1]
    assert load_run(workspace, "seit.yaml") == runs[1]
    assert load_run(workspace, "./mapet.yaml") == runs[2]


def test_a_prefix_finds_the_one_run_that_starts_with_it(workspace: Workspace, runs: list[RunRecord]) -> None:
    assert load_run(workspace, "seit-a") == runs[0]
    assert load_run(workspace, "map") == runs[2]
    with pytest.raises(InputError, match="2 runs start with 'sei'"):
        load_run(workspace, "sei")


def test_an_unknown_ref_is_answered_with_the_nearest(workspace: Workspace, runs: list[RunRecord]) -> None:
    with pytest.raises(InputError, match="nearest: mapet-cccc3333"):
        load_run(workspace, "mpaet")
    with pytest.raises(InputError, match="newest: seit-bbbb2222, mapet-cccc3333, seit-aaaa1111"):
        load_run(workspace, "0000")
    with pytest.raises(InputError):
        load_run(workspace, "")


def test_an_empty_workspace_says_how_to_start(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="has no runs; start one by"):
        load_run(workspace, "seit")


def test_runs_are_listed_newest_first_and_an_unreadable_record_is_said(
    workspace: Workspace, runs: list[RunRecord]
) -> None:
    (workspace.runs / "mapet-cccc3333.json").write_text("{")
    records, problems = read_runs(workspace)
    assert records == list_runs(workspace) == [runs[1], runs[0]]
    assert len(problems) == 1
    with pytest.raises(DamagedError, match="run its spec again"):
        load_run(workspace, "mapet-cccc3333")


def test_saving_the_same_run_again_replaces_its_record(workspace: Workspace, runs: list[RunRecord]) -> None:
    save_run(workspace, runs[0].model_copy(update={"created": 9.0}))
    assert len(list_runs(workspace)) == 3
    assert load_run(workspace, "seit").ref == "seit-aaaa1111"


def test_a_ref_that_leaves_the_folder_is_refused(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="cannot be the ref"):
        save_run(workspace, record("../up", "a" * 40, 1.0))
