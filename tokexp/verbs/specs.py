"""The verbs about the language itself: validate, show, schema, list."""

import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

from tokexp.errors import InputError, Problem, SpecError
from tokexp.spec.reading import read_experiment
from tokexp.spec.wording import did_you_mean


def validate(files: Sequence[str | Path], overrides: Sequence[str], json: bool) -> int:
    """Check specs: one line on stdout for each good file, problems and their number on stderr. Returns 0 or 2."""
    found = {str(file): _problems(file, overrides) for file in files}
    number = sum(len(problems) for problems in found.values())
    if json:
        rows = [
            {"file": file, "good": not problems, "problems": [_as_json(problem) for problem in problems]}
            for file, problems in found.items()
        ]
        _print_json({"files": rows})
        return 2 if number else 0
    for file, problems in found.items():
        if not problems:
            sys.stdout.write(f"{file}: good\n")
        for problem in problems:
            sys.stderr.write(f"{problem}\n")
    if number:
        sys.stderr.write(f"{number} error{'s' if number > 1 else ''}\n")
    return 2 if number else 0


def show(file: str | Path, overrides: Sequence[str], sources: bool, json: bool) -> int:
    """Print the resolved spec as YAML or JSON, with the source of each value if asked. Raises SpecError. Returns 0."""
    from tokexp.spec.writing import resolved, to_yaml

    spec = read_experiment(file, overrides)
    if json:
        answer: dict[str, Any] = {"file": str(file), "spec": resolved(spec.experiment)}
        _print_json({**answer, "sources": spec.sources} if sources else answer)
        return 0
    sys.stdout.write(to_yaml(spec.experiment, spec.sources if sources else None))
    return 0


def schema(output: str | Path | None, json: bool) -> int:
    """Write the JSON Schema to a file, or print it. Raises InputError if the file cannot be written. Returns 0."""
    from tokexp.spec.schema import json_schema

    text = dumps(json_schema(), indent=2) + "\n"
    if output is None:
        sys.stdout.write(text)
        return 0
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output}: the schema cannot be written: {error.strerror}") from error
    if json:
        _print_json({"written": str(output)})
    else:
        sys.stderr.write(f"wrote {output}\n")
    return 0


def list_kinds(block: str | None, json: bool) -> int:
    """Print the kinds of one block, or of all. Raises InputError for a block that is not known. Returns 0."""
    from tokexp.spec.schema import kinds

    known = kinds()
    if block is not None and block not in known:
        raise InputError(f"no block {block!r}; there are {', '.join(known)}{did_you_mean(block, known)}")
    chosen = {name: rows for name, rows in known.items() if block in (None, name)}
    if json:
        _print_json({name: [{"kind": kind, "about": about} for kind, about in rows] for name, rows in chosen.items()})
        return 0
    _print_table(chosen)
    return 0


def _print_table(chosen: dict[str, list[tuple[str, str]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("block", "kind", "what it is", box=None, pad_edge=False)
    for name, rows in chosen.items():
        for number, (kind, about) in enumerate(rows):
            table.add_row("" if number else name, kind, about)
    Console(markup=False, highlight=False).print(table)


def _problems(file: str | Path, overrides: Sequence[str]) -> list[Problem]:
    try:
        read_experiment(file, overrides)
    except SpecError as error:
        return error.problems
    return []


def _as_json(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file, "line": problem.line, "column": problem.column,
        "path": problem.path, "message": problem.message,
    }  # fmt: skip


def _print_json(value: object) -> None:
    sys.stdout.write(dumps(value) + "\n")
