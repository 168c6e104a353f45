"""Pictures for a report, of augmentation, codes and patches' classes: drawn by a process of its own that loads models.

`python -m tokexp.report.pictures WORKSPACE REF FILE [STAGE]` writes the PNG of a run's augmentation; or, of a stage
(its key), the PNG of patches that it tested or the figures of its tokens' codes (JSON: PNG in base64 and caption).
It ends with 2 and one line that says why not if it cannot.
"""

import base64
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tokexp.errors import InputError, TokexpError
from tokexp.ledger.outputs import is_done
from tokexp.ledger.runs import RunNode, RunRecord, load_run
from tokexp.ledger.workspace import Workspace
from tokexp.spec.augment import EmbNoise, walk_steps
from tokexp.spec.experiment import Experiment
from tokexp.spec.grids import stored_sides
from tokexp.spec.stages import EvaluateStage

LIMIT_S = 120.0
"""Seconds that drawing may take."""

MAPS = "patches.npz"
"""What a test of patches leaves, if it keeps maps."""

_STAGES = ("tokenizer", "tokens", "adapt")


def draw_pictures(workspace: Workspace, record: RunRecord) -> bytes:
    """Return a PNG. Raises InputError with the reason if there is nothing to show."""
    folders = _folders(workspace, record)
    missing = [kind for kind in ("tokenizer", "tokens") if kind not in folders]
    if missing:
        raise InputError(f"no pictures: the run has no finished {missing[0]} stage")
    return _drawn(workspace, record)


def patch_tests(workspace: Workspace, record: RunRecord) -> list[RunNode]:
    """Return the finished stages of a run that tested patches and kept maps of some, for its first seed."""
    own = set(next(iter(record.seeds.values()), {}).values())
    return [
        node
        for node in record.nodes
        if node.key in own
        and (node.payload.get("evaluation") or {}).get("kind") == "spatial_inconsistency"
        and is_done(folder := workspace.output(node.kind, node.key))
        and (folder / MAPS).is_file()
    ]


def draw_patches(workspace: Workspace, record: RunRecord, node: RunNode) -> bytes:
    """Return a PNG of a stage that tested patches. Raises InputError with the reason if it cannot be drawn."""
    return _drawn(workspace, record, node.key)


def draw_codebook(workspace: Workspace, record: RunRecord) -> list[tuple[str, str]]:
    """Return PNGs (base64) with captions: what the codes of a run stand for. Raises InputError with the reason."""
    node = next((node for node in record.nodes if node.kind == "tokens" and node.name == "tokens"), None)
    if node is None or not is_done(workspace.output(node.kind, node.key)):
        raise InputError("no pictures: the run has no finished tokens stage")
    return [(each["png"], each["said"]) for each in json.loads(_drawn(workspace, record, node.key))]


def _drawn(workspace: Workspace, record: RunRecord, *stage: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "pictures.png"
        command = [sys.executable, "-m", "tokexp.report.pictures", str(workspace.root), record.ref, str(target), *stage]
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


def _draw_stage(workspace: Workspace, record: RunRecord, key: str) -> bytes:
    from tokexp.stages.patch_pictures import patch_figure

    spec = Experiment.model_validate_json(json.dumps(record.resolved))
    node = next(node for node in record.nodes if node.key == key)
    if node.kind == "tokens":
        return _draw_codes(workspace, record, spec, workspace.output(node.kind, key))
    stage = EvaluateStage.model_validate_json(json.dumps(node.payload))
    side = min(stored_sides(spec)) if spec.model.input == "tokens" else 0
    covered = spec.model.grid / side if spec.model.grid and side else 1.0
    return patch_figure(stage.data, stage.evaluation.split, workspace.output(node.kind, key), covered)


def _draw_codes(workspace: Workspace, record: RunRecord, spec: Experiment, tokens: Path) -> bytes:
    from tokexp.stages.codebook_pictures import CodebookSource, codebook_figures

    steps = walk_steps((*spec.augment.pretrain, *spec.augment.task))
    noise = next((step for step in steps if isinstance(step, EmbNoise)), EmbNoise(kind="emb_noise", relative=True))
    fitted = _folders(workspace, record).get("tokenizer")
    figures = codebook_figures(CodebookSource(spec.data, spec.tokenizer, tokens, fitted, noise))
    shown = [{"png": base64.b64encode(figure.png).decode(), "said": figure.said} for figure in figures]
    return json.dumps(shown).encode()


def main(root: str, ref: str, target: str, stage: str | None = None) -> int:
    """Draw the pictures of a run, or of one of its stages, into a file and return the exit code."""
    workspace = Workspace(Path(root))
    try:
        record = load_run(workspace, ref)
        drawn = _draw(workspace, record) if stage is None else _draw_stage(workspace, record, stage)
        Path(target).write_bytes(drawn)
    except (TokexpError, ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
