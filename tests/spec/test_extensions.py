"""Kinds of installed packages: they are found by entry points and treated like tokexp's own."""

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = """\
from typing import Literal
from pydantic import Field
from tokexp.spec.base import Spec

class Blur(Spec):
    '''Blurs embeddings (own).'''
    kind: Literal["blur"]
    width: int = Field(3, ge=1, description="Side of the kernel.")

class Guess(Spec):
    '''Guesses (own).'''
    kind: Literal["guess"]
    from_: int = Field(1, description="A field.")
"""
ENTRIES = """\
[tokexp.components]
spec.augment.blur = thirdparty:Blur
spec.objectives.guess = thirdparty:Guess
"""
SPEC = """\
schema: 1
data: {kind: digits}
tokenizer: {kind: patch_kmeans}
augment: [{kind: blur, width: 5}]
objective: {kind: guess}
"""


def _install(folder: Path, entries: str = ENTRIES) -> None:
    (folder / "thirdparty.py").write_text(PACKAGE, encoding="utf-8")
    info = folder / "thirdparty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(entries, encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")


def _run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    start = f"import sys; sys.path.insert(0, {str(folder)!r})\nfrom tokexp.spec.reading import read_experiment\n"
    return subprocess.run([sys.executable, "-c", start + program], capture_output=True, text=True, cwd=folder)


def test_a_kind_of_an_installed_package_is_read_and_listed(tmp_path: Path) -> None:
    _install(tmp_path)
    ended = _run(
        tmp_path,
        "spec = read_experiment('spec.yaml').experiment\n"
        "from tokexp.spec.schema import kinds, json_schema\n"
        "print(spec.augment.task[0].width, spec.objective.kind, dict(kinds()['augment'])['blur'])\n"
        "print('Blur' in json_schema()['$defs'])\n",
    )
    assert ended.stdout.splitlines() == ["5 guess Blurs embeddings (own).", "True"], ended.stderr


def test_a_wrong_value_in_it_is_reported_like_any_other(tmp_path: Path) -> None:
    _install(tmp_path)
    (tmp_path / "spec.yaml").write_text(SPEC.replace("width: 5", "width: 0"), encoding="utf-8")
    ended = _run(tmp_path, "try:\n    read_experiment('spec.yaml')\nexcept Exception as error:\n    print(error)\n")
    assert ended.stdout.strip() == (
        "spec.yaml:4:31: augment.0.width: 0 given; a whole number of at least 1 is needed"
    ), ended.stderr


@pytest.mark.parametrize("target", ["thirdparty:PACKAGE_", "thirdparty:Guess"])
def test_an_entry_point_to_something_else_is_an_error_that_names_it(tmp_path: Path, target: str) -> None:
    _install(tmp_path, f"[tokexp.components]\nspec.augment.blur = {target}\n")
    with (tmp_path / "thirdparty.py").open("a", encoding="utf-8") as stream:
        stream.write("PACKAGE_ = 5\n")
    ended = _run(
        tmp_path, "try:\n    read_experiment('spec.yaml')\nexcept Exception as error:\n    print(repr(error))\n"
    )
    assert "InputError" in ended.stderr + ended.stdout
    assert "spec.augment.blur" in ended.stderr + ended.stdout
