"""What a person reads about a text that is no YAML: where the mistake is, rather than where YAML stumbled over it."""

import re
import unicodedata
from typing import Any

from tokexp.errors import Problem

_LOOKS_LIKE = {" ": "a space", ":": "a colon"}
_LEAD = re.compile(r"(?:[ \w.-]*[\w.-])?:?([^\x00-\x7f])")
"""What a line begins with up to its first letter that is not ASCII: an indentation, a key, a colon."""


def syntax_problem(error: Any, text: str, file: str, *, marked: bool = True) -> Problem:
    """Return the problem of a text that PyYAML could not read. With `marked` off it carries no line and column."""
    message, line, column = _said(error, re.split("\r\n|\r|\n", text), marked)
    return Problem(file, "", message, *((line, column) if marked else (None, None)))


def _said(error: Any, lines: list[str], marked: bool) -> tuple[str, int, int]:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    first = line if error.context_mark is None else error.context_mark.line + 1
    written = lines[line - 1] if line <= len(lines) else ""
    if "\t" in written[: max(column, len(written) - len(written.lstrip()))]:
        return "a tab; indent with spaces", line, written.index("\t") + 1
    odd = _look_alike(lines, first, line)
    if odd is not None:
        return odd
    if error.problem == "could not find expected ':'":  # Noticed where the next line begins.
        column = 1 if error.context_mark is None else error.context_mark.column + 1
        start = lines[first - 1][column - 1 :].split(" ")[0][:40]
        return f"not YAML: no colon with a space behind it follows {start!r}; a field is `name: value`", first, column
    message = f"not YAML: {error.problem or error.context}"
    if marked and error.context and error.problem and error.context_mark is not None:
        message += f" ({error.context} that starts on line {first})"
    return message, line, column


def _look_alike(lines: list[str], first: int, last: int) -> tuple[str, int, int] | None:
    """Return what to say about a character that looks like the space or colon which YAML needed, with its place."""
    for number in range(first, last + 1):
        found = _LEAD.match(lines[number - 1]) if number <= len(lines) else None
        meant = unicodedata.normalize("NFKC", found[1]) if found is not None else ""
        if found is not None and meant in _LOOKS_LIKE:
            message = f"the character U+{ord(found[1]):04X} looks like {_LOOKS_LIKE[meant]} and is none; type it anew"
            return message, number, found.start(1) + 1
    return None
