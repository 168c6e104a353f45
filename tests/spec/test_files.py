"""Reading spec files: encodings, control characters, sizes, and what is no file."""

from pathlib import Path

import pytest

from tokexp.errors import Problem
from tokexp.spec.files import MAX_BYTES, read_text


def _read(path: Path) -> tuple[str | None, list[Problem]]:
    problems: list[Problem] = []
    return read_text(path, path.name, problems), problems


@pytest.mark.parametrize(
    ("content", "line", "column", "words"),
    [
        (b"a: 1\nb: caf\xe9\n", 2, 7, "0xe9 is not UTF-8"),
        ("a: 1\n".encode("utf-16"), 1, 1, "UTF-16"),
        (b"a: 1\nb: \x00\n", 2, 4, "U+0000"),
        (b"a: \x1b[31m\n", 1, 4, "U+001B"),
        ("a: 1\nb: x\u2028y\n".encode(), 2, 5, "the line separator character U+2028"),
        ("a: x\u0085y\n".encode(), 1, 5, "the next line character U+0085"),
    ],
)
def test_a_file_that_is_no_utf8_text_is_refused_at_the_byte(
    tmp_path: Path, content: bytes, line: int, column: int, words: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    text, problems = _read(path)
    assert text is None
    assert [(each.line, each.column) for each in problems] == [(line, column)]
    assert words in problems[0].message


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert _read(path) == ("a: 1\n", [])


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    assert _read(tmp_path / "no.yaml")[1] == [Problem("no.yaml", "", "no such file")]
    assert "a folder" in _read(tmp_path)[1][0].message
    assert "cannot be read" in _read(Path("a\0b"))[1][0].message
    assert "not a regular file" in _read(Path("/dev/null"))[1][0].message
    assert "cannot be read" in _read(tmp_path / ("x" * 1000))[1][0].message


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    assert "at most" in _read(path)[1][0].message
