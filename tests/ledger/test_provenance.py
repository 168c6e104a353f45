import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tokexp.ledger import provenance
from tokexp.ledger.provenance import PATCH_LIMIT, collect_provenance, git_state, package_versions


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init", "-b", "trunk")
    (tmp_path / "file.txt").write_text("one\n")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def test_commit_branch_and_changes_are_recorded(repository: Path) -> None:
    state = git_state(repository)
    assert state is not None
    assert len(state["commit"]) == 40
    assert (state["branch"], state["dirty"], state["patch"]) == ("trunk", False, "")
    (repository / "file.txt").write_text("two\n")
    changed = git_state(repository)
    assert changed is not None
    assert changed["dirty"]
    assert "-one\n+two\n" in changed["patch"]


def test_a_huge_patch_is_cut_and_its_size_said(repository: Path) -> None:
    (repository / "file.txt").write_text("x" * 100 + "\n" + "y\n" * PATCH_LIMIT)
    state = git_state(repository)
    assert state is not None
    assert len(state["patch"]) == PATCH_LIMIT < state["patch_bytes"]


def test_outside_a_repository_and_without_git_there_is_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_state(tmp_path) is None
    assert git_state(tmp_path / "missing") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None
    assert collect_provenance(tmp_path)["git"] is None


def test_a_git_that_hangs_does_not_hold_up_a_run(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    monkeypatch.setattr(provenance, "_GIT_TIMEOUT_S", 0.1)
    start = time.monotonic()
    assert git_state(repository) is None
    assert time.monotonic() - start < 5


def test_versions_are_those_of_our_dependencies(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = package_versions()
    assert {"tokexp", "torch", "pydantic", "safetensors"} <= versions.keys()
    assert "pytest" not in versions


def test_scheduler_variables_are_kept_but_no_secret_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JWT", "secret")
    collected = collect_provenance(tmp_path)
    assert collected["scheduler"]["SLURM_JOB_ID"] == "17"
    assert "secret" not in json.dumps(collected)
    assert collected["argv"] == sys.argv


def test_collecting_is_quick(repository: Path) -> None:
    collect_provenance(repository)
    best = min(_seconds(repository) for _ in range(5))
    assert best < 0.1


def _seconds(folder: Path) -> float:
    start = time.perf_counter()
    collect_provenance(folder)
    return time.perf_counter() - start
