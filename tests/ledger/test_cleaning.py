import json
import os
from pathlib import Path

import pytest

from tests.ledger.processes import KILL_AT_EVERY_CALL, run_script, tree
from tokexp.errors import InputError
from tokexp.ledger import cleaning
from tokexp.ledger.claims import LEASE_S, Claim
from tokexp.ledger.cleaning import gc
from tokexp.ledger.outputs import publish, set_aside, stage_output, verify
from tokexp.ledger.runs import RunNode, RunRecord, save_run
from tokexp.ledger.workspace import Workspace

KEY, OTHER, THIRD = "ab" * 20, "cd" * 20, "ef" * 20


def publish_one(workspace: Workspace, key: str) -> Path:
    with stage_output(workspace, "tokens", key, "a1") as folder:
        (folder / "x.bin").write_bytes(b"x" * 100)
        publish(folder, workspace.output("tokens", key), {})
    return workspace.output("tokens", key)


def checkpoint(workspace: Workspace, key: str) -> Path:
    file = workspace.work(key) / "step-1.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"c" * 1000)
    return file


def need(workspace: Workspace, *keys: str) -> None:
    nodes = tuple(RunNode(key=key, kind="tokens", name="tokens") for key in keys)
    save_run(workspace, RunRecord(name="r", spec_hash="0" * 40, nodes=nodes))


def grow_old(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - LEASE_S - 10))


def removed(workspace: Workspace, dry_run: bool = False) -> list[tuple[str, str]]:
    return [(item.what, item.path.name) for item in gc(workspace, dry_run).removed]


def test_checkpoints_go_once_their_stage_is_done_and_not_before(workspace: Workspace) -> None:
    need(workspace, KEY, OTHER)
    publish_one(workspace, KEY)
    checkpoint(workspace, KEY)
    kept = checkpoint(workspace, OTHER)
    cleaned = gc(workspace)
    assert [(item.what, item.bytes) for item in cleaned.removed] == [("work", 1000)]
    assert not workspace.work(KEY).exists()
    assert kept.exists()
    assert cleaned.bytes == 1000


def test_outputs_that_no_run_names_go_and_the_others_stay(workspace: Workspace) -> None:
    need(workspace, KEY)
    kept = publish_one(workspace, KEY)
    gone = publish_one(workspace, OTHER)
    assert removed(workspace) == [("output", OTHER)]
    assert not gone.exists()
    assert verify(kept) == []
    assert list(workspace.tmp.iterdir()) == []
    assert workspace.work_keys() == []


def test_a_dry_run_says_the_same_and_changes_nothing(workspace: Workspace) -> None:
    publish_one(workspace, KEY)
    checkpoint(workspace, KEY)
    before = tree(workspace.root)
    planned = removed(workspace, dry_run=True)
    assert tree(workspace.root) == before
    assert planned == removed(workspace) == [("work", KEY), ("output", KEY)]


def test_what_a_live_claim_holds_or_reads_is_never_touched(workspace: Workspace) -> None:
    publish_one(workspace, KEY)
    publish_one(workspace, OTHER)
    checkpoint(workspace, KEY)
    writing = workspace.tmp / f"{THIRD}.a3"
    writing.mkdir()
    grow_old(writing)
    attempt = workspace.attempt("a3")
    attempt.mkdir(parents=True)
    (attempt / "job.json").write_text(json.dumps({"inputs": {"tokens": OTHER}}))
    claims = [Claim.take(workspace, KEY, "a1"), Claim.take(workspace, THIRD, "a3")]
    before = tree(workspace.root)
    assert removed(workspace) == []
    assert tree(workspace.root) == before
    assert writing.exists()
    for claim in claims:
        assert claim is not None
        claim.release()
    assert removed(workspace) == [("work", KEY), ("leftover", writing.name), ("output", KEY), ("output", OTHER)]


def test_a_claim_that_is_taken_while_cleaning_looks_around_is_respected(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = publish_one(workspace, KEY)
    kept = checkpoint(workspace, KEY)
    monkeypatch.setattr(cleaning, "_held_keys", lambda workspace: set())
    claim = Claim.take(workspace, KEY, "a1")
    cleaned = gc(workspace)
    assert claim is not None
    assert cleaned.removed == []
    assert cleaned.kept == [f"{kept.parent}: it is in use", f"{final}: it is in use"]
    assert kept.exists()
    assert verify(final) == []


def test_a_leftover_goes_when_its_attempt_is_dead_and_it_is_not_fresh(workspace: Workspace) -> None:
    workspace.create()
    leftover = workspace.tmp / f"{KEY}.a1"
    leftover.mkdir(parents=True)
    assert removed(workspace) == []
    grow_old(leftover)
    assert removed(workspace) == [("leftover", leftover.name)]
    assert not leftover.exists()


def test_damaged_outputs_go(workspace: Workspace) -> None:
    need(workspace, KEY)
    final = publish_one(workspace, KEY)
    (final / "x.bin").write_bytes(b"")
    moved = set_aside(final)
    assert moved is not None
    assert removed(workspace) == [("damaged", moved.name)]


def test_with_an_unreadable_run_record_no_output_goes(workspace: Workspace) -> None:
    final = publish_one(workspace, KEY)
    need(workspace, OTHER)
    (workspace.runs / "r-00000000.json").write_text("{")
    cleaned = gc(workspace)
    assert cleaned.removed == []
    assert "it is not known what these runs need" in cleaned.kept[0]
    assert final.exists()


def test_files_that_are_not_ours_are_left_alone(workspace: Workspace) -> None:
    workspace.create()
    own = [
        workspace.tmp / "notes.txt", workspace.tmp / "x.y" / "z", workspace.damaged / "mine" / "z",
        workspace.root / "work" / "thesis" / "z", workspace.store / "photos" / "ho" / "holiday" / "z",
    ]  # fmt: skip
    for path in own:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("precious")
        grow_old(path, path.parent)
    assert removed(workspace) == []
    assert all(path.exists() for path in own)


def test_a_folder_that_is_not_a_workspace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a workspace"):
        gc(Workspace(tmp_path))


KILLED = (
    KILL_AT_EVERY_CALL
    + """
from tokexp.ledger.cleaning import gc
from tokexp.ledger.outputs import DONE, is_done, publish, stage_output, verify
from tokexp.ledger.workspace import Workspace
workspace, key = Workspace(Path(sys.argv[1])), "ab" * 20
final = workspace.output("tokens", key)

def fill():
    if not final.exists():
        with stage_output(workspace, "tokens", key, "a1") as folder:
            for name in "abc":
                (folder / name).write_text(name)
            publish(folder, final, {})

def look(point, died):
    assert not final.exists() or verify(final) == []
    fill()

fill()
print(die_at_each_point(lambda point: gc(workspace), look))
"""
)


def test_a_kill_while_cleaning_leaves_outputs_whole_or_gone(tmp_path: Path) -> None:
    assert int(run_script(KILLED, tmp_path)) > 5
