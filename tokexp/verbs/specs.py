"""The verbs about the language itself: validate, show, schema, list."""

import sys
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

from tokexp.errors import InputError, Problem, SpecError
from tokexp.spec.base import Spec
from tokexp.spec.cluster_reading import ReadCluster, is_cluster, read_cluster
from tokexp.spec.reading import ReadSpec, read_experiment
from tokexp.spec.sweep_reading import ReadSweep, is_sweep, read_sweep
from tokexp.spec.wording import did_you_mean

Read = ReadSpec | ReadSweep | ReadCluster


def validate(files: Sequence[str | Path], overrides: Sequence[str], json: bool) -> int:
    """Check specs: one line on stdout for each good file, problems and their number on stderr. Returns 0 or 2."""
    found = {str(file): _checked(file, overrides) for file in files}
    number = sum(len(problems) for problems, _ in found.values())
    if json:
        _print_json({"files": [_file_json(file, *checked) for file, checked in found.items()]})
        return 2 if number else 0
    for file, (problems, facts) in found.items():
        if not problems:
            sys.stdout.write(f"{file}: good{_in_words(facts)}\n")
        for problem in problems:
            sys.stderr.write(f"{problem}\n")
    if number:
        sys.stderr.write(f"{number} error{'s' if number > 1 else ''}\n")
    return 2 if number else 0


def show(file: str | Path, overrides: Sequence[str], sources: bool, json: bool) -> int:
    """Print the resolved spec as YAML or JSON, with the source of each value if asked. Raises SpecError. Returns 0."""
    from tokexp.spec.writing import resolved, to_yaml

    read = _read(file, overrides)
    spec = _spec_of(read)
    if json:
        answer: dict[str, Any] = {"file": str(file), "spec": resolved(spec)}
        _print_json({**answer, "sources": read.sources} if sources else answer)
        return 0
    sys.stdout.write(to_yaml(spec, read.sources if sources else None))
    return 0


def schema(of: str, output: str | Path | None, json: bool) -> int:
    """Write the JSON Schema of a part of the language to a file, or print it. Returns 0.

    `of` is experiment, sweep or cluster. Raises InputError if the file cannot be written.
    """
    from tokexp.spec.schema import json_schema

    text = dumps(json_schema(of), indent=2) + "\n"
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


def refuse_sweep(file: str | Path) -> None:
    """Raise InputError for a sweep, where an experiment is to be run."""
    if is_sweep(file):
        raise InputError(f"{file} is a sweep; `tokexp sweep {file}` carries it out")


def refuse_profile(file: str | Path) -> None:
    """Raise InputError for a cluster profile, where an experiment or a sweep is to be planned or run."""
    if is_cluster(file):
        raise InputError(f"{file} is a cluster profile; name an experiment or a sweep, and the profile by --on")


def _print_table(chosen: dict[str, list[tuple[str, str]]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("block", "kind", "what it is", box=None, pad_edge=False)
    for name, rows in chosen.items():
        for number, (kind, about) in enumerate(rows):
            table.add_row("" if number else name, kind, about)
    Console(markup=False, highlight=False).print(table)


def _read(file: str | Path, overrides: Sequence[str]) -> Read:
    """Read a file as what it is. Raises SpecError."""
    if is_sweep(file):
        return read_sweep(file, overrides)
    return read_cluster(file, overrides) if is_cluster(file) else read_experiment(file, overrides)


def _spec_of(read: Read) -> Spec:
    if isinstance(read, ReadSweep):
        return read.sweep
    return read.cluster if isinstance(read, ReadCluster) else read.experiment


def _checked(file: str | Path, overrides: Sequence[str]) -> tuple[list[Problem], dict[str, Any]]:
    """Return what is wrong with a file, and facts about one that is good: what it is, and its number of trials."""
    try:
        read = _read(file, overrides)
    except SpecError as error:
        return error.problems, {}
    if isinstance(read, ReadCluster):
        return [], {"part": "cluster"}
    if isinstance(read, ReadSpec):
        return [], {"part": "experiment"}
    from tokexp.plan.sweep import expand

    if read.sweep.searched:
        return [], {"part": "sweep", "searched": True, "trials": read.sweep.budget.trials}
    return [], {"part": "sweep", "searched": False, "trials": len(expand(read)) * len(read.sweep.seeds)}


def _in_words(facts: dict[str, Any]) -> str:
    if facts["part"] != "sweep":
        return " (cluster profile)" if facts["part"] == "cluster" else ""
    if facts["searched"]:
        return " (searched)" if facts["trials"] is None else f" (searched, at most {facts['trials']} trials)"
    return f" ({facts['trials']} trial{'s' if facts['trials'] != 1 else ''})"


def _file_json(file: str, problems: list[Problem], facts: dict[str, Any]) -> dict[str, Any]:
    return {"file": file, "good": not problems, "problems": [_as_json(problem) for problem in problems], **facts}


def _as_json(problem: Problem) -> dict[str, Any]:
    return {
        "file": problem.file, "line": problem.line, "column": problem.column,
        "path": problem.path, "message": problem.message,
    }  # fmt: skip


def _print_json(value: object) -> None:
    sys.stdout.write(dumps(value) + "\n")
