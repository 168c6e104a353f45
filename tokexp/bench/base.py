"""What a benchmark returns, how two ways are compared, and how benchmarks are found.

A benchmark is a file here with a function `rows() -> list[BenchRow]`; one that measures on the caller's data takes a
folder. Figures are ratios where they can be: two ways are measured in turn, A B A B, and the median of the pairs'
ratios is given with a bootstrap interval.
"""

import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

from tokexp.errors import InputError

RESAMPLES = 2000
"""Draws of the bootstrap."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class BenchRow:
    """One figure. anchor: what it is compared with (another's figure, or the goal). bound: what it must hold.

    holds: whether it does; None for a figure without a bound. low, high: the 95 % interval, where there is one.
    """

    name: str
    value: float
    unit: str
    anchor: float | str | None = None
    bound: float | None = None
    holds: bool | None = None
    low: float | None = None
    high: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the row JSON-ready; an interval only where there is one."""
        optional = {"low", "high"}
        return {name: value for name, value in asdict(self).items() if name not in optional or value is not None}


@dataclass(frozen=True)
class Interval:
    """A median with the bounds of its 95 % confidence interval."""

    value: float
    low: float
    high: float


def median_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Return the median of at least one value with a percentile-bootstrap interval."""
    generator = random.Random(seed)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    low, high = medians[int(tail * RESAMPLES)], medians[int((1 - tail) * RESAMPLES) - 1]
    return Interval(statistics.median(values), low, high)


def say(text: str) -> None:
    """Say on stderr what is being measured: some figures take minutes."""
    sys.stderr.write(f"  {text}\n")
    sys.stderr.flush()


def compare(a: Callable[[], float], b: Callable[[], float], rounds: int = 9, name: str | None = None) -> Interval:
    """Return the median of a / b. Both return their own cost; each pair is measured back to back, in turns.

    With a name, every pair is said when it is measured.
    """
    a(), b()
    ratios = []
    for number in range(rounds):
        if number % 2:
            below, above = b(), a()
        else:
            above, below = a(), b()
        ratios.append(above / below)
        if name is not None:
            say(f"{name}: {ratios[-1]:.3f} ({number + 1} of {rounds})")
    return median_interval(ratios)


def seconds(work: Callable[[], object]) -> float:
    """Return the wall-clock seconds that a call takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def at_most(name: str, value: float, unit: str, bound: float, anchor: float | str | None = None) -> BenchRow:
    """Return a row that holds if the value is not above its bound."""
    return BenchRow(name, value, unit, anchor, bound, value <= bound)


def machine() -> dict[str, Any]:
    """Return what figures depend on: processor, cores, memory, system, Python. Loads nothing heavy."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(), "cores": cores, "memory_bytes": memory, "system": platform.platform(),
        "python": platform.python_version(),
    }  # fmt: skip


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown"


def bench_names() -> list[str]:
    """Return all benchmarks by the names of their files."""
    package = import_module("tokexp.bench")
    return sorted(module.name for module in iter_modules(package.__path__) if module.name != "base")


def find_bench(name: str, data: Path | None = None) -> Callable[..., list[BenchRow]]:
    """Return what measures a benchmark. Raises InputError for an unknown one, and for one that takes no `data`."""
    names = bench_names()
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        raise InputError(f"no benchmark {name!r}; {hint}")
    rows = import_module(f"tokexp.bench.{name}").rows
    if data is not None and not signature(rows).parameters:
        raise InputError(f"the benchmark {name!r} takes no data: leave out --data")
    found: Callable[..., list[BenchRow]] = rows
    return found


def run_bench(name: str, data: Path | None = None) -> list[BenchRow]:
    """Run a benchmark, on data of a folder if it takes any. Raises what `find_bench` raises."""
    rows = find_bench(name, data)
    return rows() if data is None else rows(data)
