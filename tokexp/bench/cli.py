"""CPU time of light verbs in a process of their own, over a bare interpreter's; no torch is loaded by them."""

import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tokexp.bench.base import BenchRow, compare

BOUND_S, BOUND_RATIO = 0.2, 20.0
"""The help may take 0.2 s of CPU time, or 20 times a bare interpreter, whichever is more."""

SPEC = """\
schema: 1
data: {kind: digits}
tokenizer: {kind: patch_kmeans}
model: {kind: vit, width: 32, depth: 1, heads: 2, stem: {kind: conv2x2}}
tasks: {probe: {kind: probe}}
"""


def rows() -> list[BenchRow]:
    """Measure, within about half a minute on one core."""
    found = _rows_of("tokexp --help", ["--help"], bound=True)
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.yaml"
        spec.write_text(SPEC, encoding="utf-8")
        found += _rows_of("tokexp validate", ["validate", str(spec)])
        found += _rows_of("tokexp plan", ["plan", str(spec), "--workspace", folder])
    return found


def _rows_of(name: str, arguments: list[str], bound: bool = False) -> list[BenchRow]:
    verb = _cpu_of([sys.executable, "-m", "tokexp", *arguments])
    bare = _cpu_of([sys.executable, "-c", "pass"])
    ratio = compare(verb, bare)
    cpu = statistics.median(verb() for _ in range(9))
    holds = (cpu <= BOUND_S or ratio.value <= BOUND_RATIO) if bound else None
    return [
        BenchRow(f"{name}, CPU time", cpu, "s", None, BOUND_S if bound else None, holds),
        BenchRow(
            f"{name}, over a bare interpreter", ratio.value, "x", None, BOUND_RATIO if bound else None, holds,
            ratio.low, ratio.high,
        ),
    ]  # fmt: skip


def _cpu_of(command: list[str]) -> Callable[[], float]:
    def measure() -> float:
        before = _children_cpu()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return max(_children_cpu() - before, 1e-3)

    return measure


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
