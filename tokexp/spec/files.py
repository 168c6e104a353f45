"""Reading the text of spec files: size, encoding and control characters checked, everything said with its place."""

import re
import stat
from pathlib import Path

from tokexp.errors import Problem

MAX_BYTES = 1_000_000
"""Largest spec file."""

_LINE_ENDS = {"\x85": "next line", "\u2028": "line separator", "\u2029": "paragraph separator"}
"""Characters that end a line in YAML and in no editor: places after them would be wrong."""

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029\ufffe\uffff\ud800-\udfff\uf8f0\uf8f1]")


def read_text(path: Path, shown: str, problems: list[Problem]) -> str | None:
    """Return the text of a file (a byte order mark left out), or None with the reason in `problems`.

    Problems about the content carry a line and a column; problems about the file itself carry none.
    """
    raw = _read_bytes(path, shown, problems)
    if raw is None:
        return None
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        problems.append(Problem(shown, "", "UTF-16 text; save the file as UTF-8", 1, 1))
        return None
    try:
        text = raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line, column = _position(raw[: error.start].decode("utf-8"))
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        problems.append(Problem(shown, "", message, line, column))
        return None
    if (control := _CONTROL.search(text)) is not None:
        line, column = _position(text[: control.start()])
        kind = _LINE_ENDS.get(control[0], "control")
        message = f"the {kind} character U+{ord(control[0]):04X}; remove it"
        problems.append(Problem(shown, "", message, line, column))
        return None
    return text


def _read_bytes(path: Path, shown: str, problems: list[Problem]) -> bytes | None:
    message = ""
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            message = "a folder; name a YAML file in it"
        elif not stat.S_ISREG(state.st_mode):
            message = "not a regular file"
        elif state.st_size > MAX_BYTES:
            message = f"{state.st_size} bytes; a spec file has at most {MAX_BYTES}"
        else:
            with path.open("rb") as stream:
                return stream.read(MAX_BYTES + 1)[:MAX_BYTES]
    except FileNotFoundError:
        message = "no such file"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"cannot be read: {reason}"
    problems.append(Problem(shown, "", message))
    return None


def _position(before: str) -> tuple[int, int]:
    lines = before.split("\n")
    return len(lines), len(lines[-1]) + 1
