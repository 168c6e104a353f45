"""Maps of patches in a run's report."""

from pathlib import Path

import numpy as np
import pytest

from tests.recorded import finish_stage, key_of, recorded_run, start_attempt, workspace_at
from tokexp.ledger.runs import RunNode, RunRecord, save_run
from tokexp.ledger.workspace import Workspace
from tokexp.report.html import report_html
from tokexp.report.pictures import main, patch_tests
from tokexp.report.results import value_text
from tokexp.report.wording import is_share

MODEL = {"kind": "vit", "width": 16, "depth": 1, "heads": 2, "input": "pixels"}


@pytest.fixture
def tested(tmp_path: Path) -> tuple[Workspace, RunRecord, RunNode]:
    """Return a run of two seeds, both of which tested patches of two digits."""
    workspace = workspace_at(tmp_path)
    record = recorded_run(workspace)
    payload = {
        "kind": "evaluate", "data": {"kind": "digits"}, "model": MODEL, "embed": "codebook",
        "task": {"kind": "classify"}, "evaluation": {"kind": "spatial_inconsistency"},
    }  # fmt: skip
    nodes = [
        RunNode(key=key_of("finetune/x", seed), kind="evaluate", name="finetune/x", label="", payload=payload)
        for seed in (0, 1)
    ]
    named = {seed: {**keys, "finetune/x": nodes[seed].key} for seed, keys in record.seeds.items()}
    resolved = {**record.resolved, "model": MODEL, "tasks": {"finetune": {"kind": "classify"}}}
    record = record.model_copy(update={"nodes": (*record.nodes, *nodes), "seeds": named, "resolved": resolved})
    save_run(workspace, record)
    return workspace, record, nodes[0]


def finish(workspace: Workspace, node: RunNode) -> None:
    finish_stage(workspace, node, start_attempt(workspace, node, f"{node.key}-001"), f"{node.key}-001")


def keep_maps(workspace: Workspace, node: RunNode) -> None:
    maps = np.zeros((2, 2, 4, 4), np.int32)
    settings = np.array(["16 patches", "8 groups"])
    np.savez(
        workspace.output(node.kind, node.key) / "patches.npz", positions=np.array([0, 3]), labels=np.array([1, 5]),
        settings=settings, predicted=maps, ranks=maps,
    )  # fmt: skip


def test_the_first_seeds_maps_are_shown_once_they_are_there(tested: tuple[Workspace, RunRecord, RunNode]) -> None:
    workspace, record, node = tested
    assert patch_tests(workspace, record) == []
    for each in record.nodes[-2:]:
        finish(workspace, each)
    assert patch_tests(workspace, record) == []
    for each in record.nodes[-2:]:
        keep_maps(workspace, each)
    assert [found.key for found in patch_tests(workspace, record)] == [node.key]
    target = workspace.root / "patches.png"
    assert main(str(workspace.root), record.ref, str(target), node.key) == 0
    assert target.read_bytes().startswith(b"\x89PNG")


def test_the_page_has_them_under_the_tests_name(
    tested: tuple[Workspace, RunRecord, RunNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, record, node = tested
    finish(workspace, node)
    keep_maps(workspace, node)
    monkeypatch.setattr("tokexp.report.html.draw_patches", lambda *given: b"png")
    page = report_html(workspace, record)
    assert "<h2>Patches</h2>" in page
    assert "finetune/x: images, and the classes" in page
    assert "<h2>Patches</h2>" not in report_html(workspace, record, pictures=False)


def test_shares_at_a_number_of_groups_are_shown_in_percent() -> None:
    assert value_text("finetune/x/ensemble_top1_at_98", 0.308) == "30.80 %"
    assert value_text("finetune/x/neighbour_cosine_at_98", 0.308) == "0.308"
    assert is_share("finetune/x/patch_top1_at_98")
