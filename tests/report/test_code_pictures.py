"""Figures of codes in a report: drawn by a process of its own from a finished tokens stage."""

import base64
from pathlib import Path

import numpy as np
import pytest

from tests.recorded import key_of, recorded_run, workspace_at
from tokexp.errors import InputError
from tokexp.ledger.outputs import publish, stage_output
from tokexp.ledger.runs import RunRecord, save_run
from tokexp.ledger.workspace import Workspace
from tokexp.report.html import report_html
from tokexp.report.pictures import draw_codebook
from tokexp.spec.storage import PackedCodec
from tokexp.storage.store import write_store

RELEASED = {
    "schema": 1, "name": "recorded", "data": {"kind": "seit_release", "root": "none"},
    "tasks": {"probe": {"kind": "probe"}},
}  # fmt: skip


def finished(root: Path) -> tuple[Workspace, RunRecord]:
    workspace = workspace_at(root)
    record = recorded_run(workspace).model_copy(update={"resolved": RELEASED})
    save_run(workspace, record)
    indices = np.array([[[0, 0], [0, 0]], [[1, 1], [2, 2]]])
    with stage_output(workspace, "tokens", key_of("tokens"), "a1") as folder:
        write_store(
            folder / "train.tokens", indices, np.array([0, 1]), np.eye(3, dtype=np.float32), PackedCodec(kind="packed"),
            metric="cosine", num_classes=2, facts={"asked_codes": 8},
        )  # fmt: skip
        publish(folder, workspace.output("tokens", key_of("tokens")), {})
    return workspace, record


def test_the_page_tells_how_released_tokens_are_used(tmp_path: Path) -> None:
    page = report_html(*finished(tmp_path))
    assert "<h2>Codes</h2>" in page
    assert "3 of 8 codes, entropy 1.50 bits" in page
    assert "<h2>Augmentation</h2>" not in page


def test_each_figure_is_a_png_with_its_caption(tmp_path: Path) -> None:
    ((picture, said),) = draw_codebook(*finished(tmp_path))
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert "perplexity 2.8" in said


def test_without_a_finished_tokens_stage_there_is_nothing_to_draw(tmp_path: Path) -> None:
    workspace = workspace_at(tmp_path)
    with pytest.raises(InputError, match="no finished tokens stage"):
        draw_codebook(workspace, recorded_run(workspace))
