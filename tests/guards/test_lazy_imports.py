"""Verbs that only read and write text load nothing heavy; each runs in an interpreter of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "timm", "numpy", "mlflow", "optuna", "pandas", "sklearn", "matplotlib", "sqlalchemy")
SPEC = """\
schema: 1
name: light
data: {kind: digits}
tokenizer: {kind: patch_kmeans}
model: {kind: vit, width: 32, depth: 1, heads: 2, stem: {kind: conv2x2}}
objective: {kind: mtm, train: {epochs: 1, batch_size: 64}}
tasks:
  probe: {kind: probe}
"""
SWEEP = """\
schema: 1
name: light-sweep
experiment: light.yaml
grid: {objective.train.lr: [0.001, 0.002]}
"""
PROGRAM = """
import sys
from tokexp.cli import _run
code = _run(sys.argv[2:])
print(",".join(name for name in sys.argv[1].split(",") if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "verb",
    [
        ["--help"], ["version"], ["validate", "SPEC"], ["validate", "SPEC", "--json"], ["show", "SPEC", "--sources"],
        ["schema"], ["list"], ["schema", "--of", "sweep"],
        ["validate", "SWEEP"], ["show", "SWEEP"], ["plan", "SWEEP"], ["plan", "SWEEP", "--json"], ["tick"],
        ["plan", "SPEC"], ["status"], ["status", "--json"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_light_verb_loads_no_heavy_package(verb: list[str], tmp_path: Path) -> None:
    spec = tmp_path / "light.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    files = {"SPEC": str(spec), "SWEEP": str(sweep)}
    arguments = [files.get(word, word) for word in verb]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, ",".join(HEAVY), *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.splitlines()[-1] == "", "heavy packages were loaded"


def test_report_imports_nothing_heavy_before_it_draws() -> None:
    program = "import sys, tokexp.report.html, tokexp.report.results, tokexp.report.table, tokexp.verbs.showing\n"
    program += f"print([name for name in {HEAVY!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
