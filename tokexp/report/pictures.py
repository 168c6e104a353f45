"""Pictures of what augmentation does, for a report: drawn by a process of its own, because they need the models.

`python -m tokexp.report.pictures WORKSPACE REF FILE` writes the PNG, or ends with 2 and one line that says why not.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tokexp.errors import InputError, TokexpError
from tokexp.ledger.outputs import is_done
from tokexp.ledger.runs import RunRecord, load_run
from tokexp.ledger.workspace import Workspace
from tokexp.spec.experiment import Experiment

LIMIT_S = 120.0
"""Seconds that drawing may take."""

_STAGES = ("tokenizer", "tokens", "adapt")


def draw_pictures(workspace: Workspace, record: RunRecord) -> bytes:
    """Return a PNG. Raises InputError with the reason if there is nothing to show."""
    folders = _folders(workspace, record)
    missing = [kind for kind in ("tokenizer", "tokens") if kind not in folders]
    if missing:
        raise InputError(f"no pictures: the run has no finished {missing[0]} stage")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "pictures.png"
        command = [sys.executable, "-m", "tokexp.report.pictures", str(workspace.root), record.ref, str(target)]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise InputError(f"no pictures: drawing took over {LIMIT_S:.0f} s") from error
        if ended.returncode or not target.is_file():
            said = ended.stderr.strip().splitlines() or ["the drawing process ended without a word"]
            raise InputError(f"no pictures: {said[-1]}")
        return target.read_bytes()


def _folders(workspace: Workspace, record: RunRecord) -> dict[str, Path]:
    found = {}
    for node in record.nodes:
        folder = workspace.output(node.kind, node.key)
        if node.kind in _STAGES and is_done(folder):
            found[node.kind] = folder
    return found


def _draw(workspace: Workspace, record: RunRecord) -> bytes:
    from tokexp.stages.pictures import PictureSource, augmentation_figure

    spec = Experiment.model_validate_json(json.dumps(record.resolved))
    if spec.tokenizer is None:
        raise InputError("released tokens cannot be decoded")
    steps = (*spec.augment.pretrain, *spec.augment.task)
    folders = _folders(workspace, record)
    source = PictureSource(spec.data, spec.tokenizer, steps, spec.augment.adapt, folders, spec.model.grid)
    return augmentation_figure(source)


def main(root: str, ref: str, target: str) -> int:
    """Draw the pictures of a run into a file and return the exit code."""
    workspace = Workspace(Path(root))
    try:
        Path(target).write_bytes(_draw(workspace, load_run(workspace, ref)))
    except (TokexpError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
