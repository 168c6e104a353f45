import json
from pathlib import Path

import pytest

from tests.ledger.processes import run_script, start_script
from tokexp.errors import InputError
from tokexp.ledger.outputs import publish, stage_output
from tokexp.ledger.workspace import LAYOUT, Workspace, resolve_workspace

KEY, NEAR, FAR = "ab" * 20, "ab" * 19 + "cd", "12" * 20


def test_resolving_a_workspace_writes_nothing(tmp_path: Path) -> None:
    resolve_workspace(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_the_option_wins_over_the_environment_and_that_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEXP_WORKSPACE", str(tmp_path / "from_environment"))
    assert resolve_workspace(tmp_path / "option").root == tmp_path / "option"
    assert resolve_workspace(None).root == tmp_path / "from_environment"
    monkeypatch.delenv("TOKEXP_WORKSPACE")
    assert resolve_workspace(None).root == tmp_path / "workspace"


def test_a_file_is_refused_as_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        resolve_workspace(tmp_path / "file")


def test_a_workspace_of_a_newer_layout_is_refused(workspace: Workspace) -> None:
    workspace.create()
    (workspace.root / "workspace.json").write_text(json.dumps({"layout": LAYOUT + 1}))
    with pytest.raises(InputError, match=f"has layout {LAYOUT + 1}"):
        resolve_workspace(workspace.root)


def test_a_damaged_workspace_file_is_said(workspace: Workspace) -> None:
    workspace.create()
    (workspace.root / "workspace.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        workspace.create()


UNWRITABLE = """
import os, sys
from pathlib import Path
from tokexp.errors import InputError
from tokexp.ledger.workspace import Workspace
if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere, nobody may not
for name in ("new", ""):
    try:
        Workspace(Path(sys.argv[1]) / name).create()
    except InputError as error:
        print(error)
"""


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    Workspace(tmp_path).create()
    tmp_path.chmod(0o555)
    said = run_script(UNWRITABLE, tmp_path).splitlines()
    assert len(said) == 2
    assert all("name another folder by --workspace" in line for line in said)


def test_a_workspace_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the workspace"):
        Workspace(tmp_path / "file" / "inside").create()


def test_many_processes_may_create_a_workspace_at_once(workspace: Workspace) -> None:
    text = (
        "import sys; from pathlib import Path; from tokexp.ledger.workspace import Workspace\n"
        "workspace = Workspace(Path(sys.argv[1])); sys.stdin.read(1); workspace.create(); workspace.check()"
    )
    children = [start_script(text, workspace.root) for _ in range(4)]
    for child in children:
        child.communicate("x", timeout=60)
    assert [child.returncode for child in children] == [0] * 4
    assert [path.name for path in workspace.root.iterdir()] == ["workspace.json"]


def test_names_that_leave_the_workspace_are_refused(workspace: Workspace) -> None:
    for name in ("../up", "a/b", "", ".hidden", "a\0b"):
        with pytest.raises(InputError, match="cannot name a folder"):
            workspace.work(name)


def test_a_prefix_finds_the_one_key_that_starts_with_it(workspace: Workspace) -> None:
    for key in (KEY, FAR):
        with stage_output(workspace, "tokens", key, "a1") as folder:
            publish(folder, workspace.output("tokens", key), {})
    workspace.work(NEAR).mkdir(parents=True)
    assert workspace.find_key("12") == FAR
    assert workspace.find_key(NEAR) == NEAR
    with pytest.raises(InputError, match="2 stage keys start with 'abab'"):
        workspace.find_key("abab")
    for missing in ("ff", ""):
        with pytest.raises(InputError, match="no stage key starts with"):
            workspace.find_key(missing)


def test_outputs_are_listed_with_kind_and_key(workspace: Workspace) -> None:
    with stage_output(workspace, "tokens", KEY, "a1") as folder:
        publish(folder, workspace.output("tokens", KEY), {})
    final = workspace.output("tokens", KEY)
    assert list(workspace.outputs()) == [("tokens", KEY, final)]
    assert workspace.find_output(KEY) == final
    assert workspace.find_output(FAR) is None
