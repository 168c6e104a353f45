import errno
import os
from pathlib import Path

import pytest

from tests.ledger.processes import KILL_AT_EVERY_CALL, run_script
from tokexp.errors import DamagedError, StageError
from tokexp.ledger.outputs import (
    complete,
    is_done,
    publish,
    read_record,
    read_result,
    set_aside,
    stage_output,
    verify,
    write_result,
)
from tokexp.ledger.workspace import Workspace

KEY = "ab" * 20


def publish_one(workspace: Workspace, content: bytes = b"weights", attempt: str = "a1") -> Path:
    final = workspace.output("tokens", KEY)
    with stage_output(workspace, "tokens", KEY, attempt) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "weights.bin").write_bytes(content)
        write_result(folder, {"loss": 0.5}, {"note": "x"})
        publish(folder, final, {"kind": "tokens", "key": KEY, "attempt": attempt})
    return final


def test_a_published_output_is_done_sound_and_readable(workspace: Workspace) -> None:
    final = publish_one(workspace)
    assert is_done(final)
    assert verify(final) == []
    assert read_result(final) == {"metrics": {"loss": 0.5}, "facts": {"note": "x"}}
    assert read_record(final)["attempt"] == "a1"
    assert list(workspace.tmp.iterdir()) == []


def test_nothing_is_visible_before_publish_and_nothing_is_left_after_an_error(workspace: Workspace) -> None:
    def fail() -> None:
        with stage_output(workspace, "tokens", KEY, "a1") as folder:
            (folder / "x").write_text("half")
            assert not workspace.store.exists()
            raise ValueError("oops")

    with pytest.raises(ValueError, match="oops"):
        fail()
    assert list(workspace.tmp.iterdir()) == []


def test_the_second_of_two_attempts_is_discarded(workspace: Workspace) -> None:
    final = workspace.output("tokens", KEY)
    with stage_output(workspace, "tokens", KEY, "a1") as one, stage_output(workspace, "tokens", KEY, "a2") as two:
        (one / "x").write_text("one")
        (two / "x").write_text("two")
        assert publish(two, final, {})
        assert not publish(one, final, {})
    assert (final / "x").read_text() == "two"
    assert verify(final) == []


def test_a_damaged_output_makes_way_for_a_new_one(workspace: Workspace) -> None:
    final = publish_one(workspace)
    (final / "deep" / "weights.bin").write_bytes(b"wEights")
    publish_one(workspace, b"new", "a2")
    assert (final / "deep" / "weights.bin").read_bytes() == b"new"
    assert verify(final) == []
    assert len(list(workspace.damaged.iterdir())) == 1


def _truncate(final: Path) -> None:
    (final / "deep" / "weights.bin").write_bytes(b"weigh")


def _alter(final: Path) -> None:
    (final / "deep" / "weights.bin").write_bytes(b"weighty")


def _remove(final: Path) -> None:
    (final / "deep" / "weights.bin").unlink()


def _add(final: Path) -> None:
    (final / "new.bin").write_bytes(b"")


def _alter_manifest(final: Path) -> None:
    text = (final / "manifest.json").read_text()
    (final / "manifest.json").write_text(text.replace('"a1"', '"a2"'))


def _remove_manifest(final: Path) -> None:
    (final / "manifest.json").unlink()


def _remove_mark(final: Path) -> None:
    (final / "DONE").unlink()


def _link(final: Path) -> None:
    target = final / "deep" / "weights.bin"
    target.unlink()
    target.symlink_to("/nowhere")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_truncate, "deep/weights.bin has 5 bytes instead of 7"),
        (_alter, "deep/weights.bin was altered: its digest differs"),
        (_remove, "deep/weights.bin is missing"),
        (_add, "new.bin is not in the manifest"),
        (_alter_manifest, "manifest.json was altered: its digest is not the one in DONE"),
        (_remove_manifest, "manifest.json is missing"),
        (_remove_mark, "DONE is missing"),
        (_link, "deep/weights.bin is unreadable: No such file or directory"),
    ],
)
def test_verify_says_what_was_done_to_an_output(workspace: Workspace, damage, said: str) -> None:
    final = publish_one(workspace)
    damage(final)
    assert verify(final) == [said]


@pytest.mark.parametrize("damage", [_alter_manifest, _remove_manifest, _remove_mark])
def test_an_output_whose_mark_does_not_fit_is_not_done(workspace: Workspace, damage) -> None:
    final = publish_one(workspace)
    damage(final)
    assert not is_done(final)
    assert not complete(final)


def test_setting_aside_moves_a_damaged_output_but_not_a_sound_one(workspace: Workspace) -> None:
    final = publish_one(workspace)
    assert set_aside(final) is None
    assert verify(final) == []
    _alter(final)
    moved = set_aside(final)
    assert moved is not None
    assert moved.parent == workspace.damaged
    assert not final.exists()
    assert set_aside(final) is None


def test_an_output_with_a_link_is_refused(workspace: Workspace) -> None:
    with stage_output(workspace, "tokens", KEY, "a1") as folder:
        (folder / "link").symlink_to("/etc/hostname")
        with pytest.raises(StageError, match="not a plain file"):
            publish(folder, workspace.output("tokens", KEY), {})
    assert workspace.find_output(KEY) is None


def test_a_missing_or_damaged_result_is_said(workspace: Workspace) -> None:
    final = publish_one(workspace)
    (final / "result.json").write_text("[]")
    with pytest.raises(DamagedError, match="does not hold a mapping"):
        read_result(final)
    (final / "result.json").unlink()
    with pytest.raises(DamagedError, match="missing or unreadable"):
        read_result(final)


KILLED_PUBLISH = (
    KILL_AT_EVERY_CALL
    + """
from tokexp.ledger.workspace import Workspace
from tokexp.ledger.outputs import DONE, complete, is_done, publish, stage_output, verify

root, key = Path(sys.argv[1]), "ab" * 20
spaces = lambda point: Workspace(root / str(point))
seen = []

def attempt(space, name):
    with stage_output(space, "tokens", key, name) as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a.bin").write_bytes(b"a" * 100)
        (folder / "b.bin").write_bytes(b"b" * 100)
        publish(folder, space.output("tokens", key), {"key": key})

def look(point, died):
    space = spaces(point)
    final = space.output("tokens", key)
    visible = is_done(final)
    assert visible == (final / DONE).exists()
    assert not visible or verify(final) == [], verify(final)
    assert died or visible
    before = final.stat().st_ino if final.exists() else None
    seen.append((visible, before is not None))
    attempt(space, "second")
    assert is_done(final) and verify(final) == []
    # what the first attempt had renamed into place was sound, and is not computed again
    assert before in (None, final.stat().st_ino)
    assert not space.damaged.exists()

die_at_each_point(lambda point: attempt(spaces(point), "first"), look)
assert (False, False) in seen and (False, True) in seen and (True, True) in seen, seen
print(len(seen))
"""
)


def test_a_kill_at_any_point_of_publishing_leaves_nothing_visible_or_a_sound_output(tmp_path: Path) -> None:
    assert int(run_script(KILLED_PUBLISH, tmp_path)) > 12


def test_an_output_cut_off_before_its_mark_is_completed(workspace: Workspace) -> None:
    final = publish_one(workspace)
    (final / "DONE").rename(final / ".DONE")
    assert not is_done(final)
    assert complete(final)
    assert verify(final) == []


def test_an_output_cut_off_before_its_mark_and_damaged_since_makes_way(workspace: Workspace) -> None:
    final = publish_one(workspace)
    (final / "DONE").rename(final / ".DONE")
    _alter(final)
    assert not complete(final)
    publish_one(workspace, b"new", "a2")
    assert verify(final) == []
    assert len(list(workspace.damaged.iterdir())) == 1


def test_everything_is_on_the_disk_before_it_is_renamed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = os.rename

    def sync(descriptor: int) -> None:
        calls.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    def rename(source: Path, target: Path) -> None:
        calls.append(f"rename to {Path(target).name}")
        real(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", rename)
    publish_one(workspace)
    before = calls[: calls.index(f"rename to {KEY}")]
    assert {"weights.bin", "result.json", "manifest.json", ".DONE", "deep", f"{KEY}.a1"} <= set(before)
    assert before[-1] == f"{KEY}.a1"
    assert calls[len(before) + 1 :] == ["ab", "tokens", "rename to DONE", KEY]


LIMITED = """
import resource, sys
from pathlib import Path
from tokexp.errors import StageError
from tokexp.ledger.outputs import publish, stage_output
from tokexp.ledger.workspace import Workspace

workspace, size, limit = Workspace(Path(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with stage_output(workspace, "tokens", "ab" * 20, "a1") as folder:
        (folder / "big.bin").write_bytes(b"x" * size)
        publish(folder, workspace.output("tokens", "ab" * 20), {"filler": "y" * 5000})
except StageError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [100_000, 10], ids=["while writing the output", "while writing the manifest"])
def test_a_file_that_cannot_grow_fails_the_stage_and_leaves_nothing(workspace: Workspace, size: int) -> None:
    printed = run_script(LIMITED, workspace.root, size, 4000)
    assert printed.startswith("disk full")
    assert list(workspace.tmp.iterdir()) == []
    assert not workspace.store.exists()


FULL = """
import subprocess, sys
from pathlib import Path
from tokexp.errors import StageError
from tokexp.ledger.outputs import is_done, publish, stage_output, verify
from tokexp.ledger.workspace import Workspace

mount, key = Path(sys.argv[1]), "ab" * 20
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], capture_output=True).returncode:
    print("cannot mount")
    sys.exit()
try:
    workspace = Workspace(mount / "workspace").create()
    for size in range(0, 300_000, 8192):
        failed = ""
        try:
            with stage_output(workspace, "tokens", key, "a1") as folder:
                (folder / "big.bin").write_bytes(b"x" * size)
                publish(folder, workspace.output("tokens", key), {"filler": "y" * 5000})
        except StageError as error:
            failed = str(error)
        final = workspace.output("tokens", key)
        assert is_done(final) != bool(failed), (size, failed)
        assert list(workspace.tmp.iterdir()) == []
        if failed:
            assert failed.startswith("disk full") and not final.exists()
            break
        assert verify(final) == []
        subprocess.run(["rm", "-r", str(workspace.store)], check=True)
    else:
        raise AssertionError("the disk never was full")
    print("full at", size)
finally:
    subprocess.run(["umount", str(mount)], check=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk; the file size limit is tested above")
def test_a_full_disk_fails_the_stage_and_leaves_nothing(tmp_path: Path) -> None:
    printed = run_script(FULL, tmp_path)
    if printed.startswith("cannot mount"):
        pytest.skip("this machine does not let root mount a tmpfs")
    assert printed.startswith("full at")


def test_an_error_that_only_says_no_space_left_counts_as_a_full_disk(workspace: Workspace) -> None:
    said = "No space left on device (os error 28)"
    with pytest.raises(StageError, match="disk full"), stage_output(workspace, "tokens", KEY, "a1"):
        raise RuntimeError(said)


def test_other_system_errors_are_not_called_a_full_disk(workspace: Workspace) -> None:
    with pytest.raises(PermissionError), stage_output(workspace, "tokens", KEY, "a1"):
        raise PermissionError(errno.EACCES, "no")
