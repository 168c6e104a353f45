from pathlib import Path

import pytest

from tokexp.errors import InputError
from tokexp.storage.interchange.placing import free_file, whole_folder


def _fill_and_fail(target: Path) -> None:
    with whole_folder(target, "mark", False) as folder:
        (folder / "a").write_text("1")
        assert not target.exists()
        raise RuntimeError


def test_a_folder_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError):
        _fill_and_fail(target)
    assert list(tmp_path.iterdir()) == []
    with whole_folder(target, "mark", False) as folder:
        (folder / "a").write_text("1")
    assert [path.name for path in target.iterdir()] == ["a"]


def test_only_a_folder_with_the_mark_is_replaced_and_only_by_force(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="exists already"), whole_folder(target, "mark", False):
        pass
    with pytest.raises(InputError, match="will not replace"), whole_folder(target, "mark", True):
        pass
    assert (target / "mine.txt").read_text() == "precious"
    (target / "mark").write_text("")
    with whole_folder(target, "mark", True) as folder:
        (folder / "new").write_text("")
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_is_never_replaced_unasked(tmp_path: Path) -> None:
    target = tmp_path / "a"
    assert free_file(target, False) == target
    target.write_text("")
    with pytest.raises(InputError, match="--force"):
        free_file(target, False)
    assert free_file(target, True) == target
    for wrong in (tmp_path, tmp_path / "none" / "a"):
        with pytest.raises(InputError):
            free_file(wrong, True)
