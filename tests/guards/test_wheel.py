"""What a person installs: the wheel holds the package, its type mark, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.guards.source_files import ROOT, SOURCES, short


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_the_type_mark(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "tokexp", copy / "tokexp", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {short(path) for path in SOURCES} <= names
    assert "tokexp/py.typed" in names
    assert not [name for name in names if name.startswith("tests")]
