"""What is kept of files is never older than the files, and kept all the same."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tokexp.spec import file_memory
from tokexp.spec.file_memory import FileMemory

SETTLED = Path(subprocess.__file__)
"""A file that nobody has written for a while."""


class Reader:
    """Reads files and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, *files: Path) -> Callable[[], tuple[bytes, list[str]]]:
        def make() -> tuple[bytes, list[str]]:
            self.times += 1
            return b"".join(file.read_bytes() for file in files), [str(file) for file in files]

        return make


def test_content_of_equal_length_that_is_written_at_once_is_seen(tmp_path: Path) -> None:
    file, memory, read = tmp_path / "weights", FileMemory[bytes](8), Reader()
    for number in range(200):
        content = f"{number:04}".encode()
        file.write_bytes(content)
        assert memory.recall("it", read(file)) == content


def test_a_settled_file_is_read_once() -> None:
    memory, read = FileMemory[bytes](8), Reader()
    assert memory.recall("it", read(SETTLED)) == memory.recall("it", read(SETTLED)) == SETTLED.read_bytes()
    assert read.times == 1


def test_one_young_file_among_settled_ones_is_enough_to_read_again(tmp_path: Path) -> None:
    (tmp_path / "young").write_bytes(b"1")
    memory, read = FileMemory[bytes](8), Reader()
    for _ in range(2):
        memory.recall("it", read(SETTLED, tmp_path / "young"))
    assert read.times == 2


def test_a_file_that_was_kept_is_read_again_when_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_memory, "SETTLED_S", -1.0)  # Every file counts as settled: only its state is left to tell.
    file, memory, read = tmp_path / "weights", FileMemory[bytes](8), Reader()
    file.write_bytes(b"old")
    memory.recall("it", read(file))
    (tmp_path / "beside").write_bytes(b"new")
    (tmp_path / "beside").replace(file)
    assert memory.recall("it", read(file)) == b"new"
    file.unlink()
    with pytest.raises(FileNotFoundError):
        memory.recall("it", read(file))


def test_the_oldest_entry_makes_room() -> None:
    memory, read = FileMemory[bytes](2), Reader()
    for key in ("a", "b", "c", "c", "b"):
        memory.recall(key, read(SETTLED))
    assert read.times == 3
    memory.recall("a", read(SETTLED))
    assert read.times == 4
