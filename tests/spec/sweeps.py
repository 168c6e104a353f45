"""Sweeps as text over the good experiment, and how tests read them."""

from collections.abc import Sequence
from pathlib import Path

from tests.spec.specs import write
from tokexp.errors import Problem, SpecError
from tokexp.spec.sweep_reading import ReadSweep, read_sweep

HEAD = "schema: 1\nname: s\nexperiment: spec.yaml\n"
"""The first three lines: what follows starts on line 4."""

BIG = "tokenizer.codebook_size: [8, 16, 32]"


def write_sweep(folder: Path, text: str, *, head: str = HEAD, name: str = "sweep.yaml") -> Path:
    """Write a sweep over `specs.GOOD`, beside it, and return its path."""
    write(folder)
    return write(folder, head + text, name)


def sweep(folder: Path, text: str, overrides: Sequence[str] = (), *, head: str = HEAD) -> ReadSweep:
    """Write a sweep and read it."""
    return read_sweep(write_sweep(folder, text, head=head), overrides)


def sweep_problems(folder: Path, text: str, overrides: Sequence[str] = (), *, head: str = HEAD) -> list[Problem]:
    """Write a sweep and return its problems; none if it is good."""
    try:
        sweep(folder, text, overrides, head=head)
    except SpecError as error:
        return error.problems
    return []


def said(folder: Path, problems: list[Problem]) -> list[str]:
    """Return problems as people read them, the folder left out."""
    return [str(problem).replace(f"{folder}/", "") for problem in problems]
