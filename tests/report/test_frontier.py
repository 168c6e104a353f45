"""The frontier of storage policies: bytes of the store over the images of the source, families, published points."""

import csv
from pathlib import Path
from typing import Any

import pytest

from tests.recorded import FACTS, recorded_run, workspace_at
from tokexp.errors import InputError
from tokexp.ledger.events import EventLog
from tokexp.ledger.outputs import publish, stage_output, write_result
from tokexp.ledger.runs import RunNode
from tokexp.ledger.sweeps import Sweep, SweepRecord, TrialLog, TrialRecord, load_sweep, save_sweep
from tokexp.ledger.workspace import Workspace
from tokexp.report.frontier import (
    IMAGENET_IMAGES,
    Frontier,
    FrontierPoint,
    frontier_sheet,
    joined,
    run_frontier,
    sweep_frontier,
    with_published,
)
from tokexp.report.frontier_figure import frontier_file, frontier_svg
from tokexp.report.sweep_html import sweep_html
from tokexp.verbs.frontiers import report

POLICIES: dict[str, tuple[str, dict[str, Any], int, int, float]] = {
    "jpeg 5": ("images", {"reduce": {"kind": "jpeg", "quality": 5}}, 40_000, 100, 0.5),
    "scores": ("images", {"reduce": {"kind": "fraction", "select": "c_score"}}, 20_000, 20, 0.4),
    "half": ("images", {"reduce": {"kind": "fraction", "select": "class_balanced"}}, 30_000, 50, 0.3),
    "tokens": ("tokens", {"codec": {"kind": "packed"}}, 5_000, 100, 0.45),
}
"""Case to stage, storage, stored bytes, stored images of 100, and accuracy."""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_at(tmp_path)


def finish(workspace: Workspace, node: RunNode, metrics: dict[str, float], facts: dict[str, Any]) -> None:
    folder = workspace.create().attempt(f"a-{node.key}")
    folder.mkdir(parents=True)
    log = EventLog(folder / "events.jsonl")
    log.append("started", attempt=f"a-{node.key}", key=node.key, kind=node.kind, label="", seed=node.seed, gpus=0)
    with stage_output(workspace, node.kind, node.key, f"a-{node.key}") as output:
        write_result(output, metrics, facts)
        publish(output, workspace.output(node.kind, node.key), {"kind": node.kind, "key": node.key})
    log.append("done", metrics=metrics, facts=facts, seconds=1.0)
    log.close()


def policies(workspace: Workspace, published: str | None = None) -> Sweep:
    """A sweep over the policies above, carried out, and one case of pixels for which nothing is counted."""
    record = SweepRecord(
        ref="policies-abababab", name="policies", spec_hash="ab" * 20, seeds=(0,),
        metrics=({"name": "train/top1", "direction": "maximize"},),
        published=None if published is None else {"table": published},
    )  # fmt: skip
    log = TrialLog(save_sweep(workspace, record))
    log.asked()
    for number, (case, (kind, storage, total, images, top1)) in enumerate(POLICIES.items()):
        stored = RunNode(key=f"{number:040x}", kind=kind, name=kind, payload={"kind": kind, "storage": storage})
        clean = {"evaluation": {"kind": "clean", "split": "test"}}
        test = RunNode(key=f"{number + 16:040x}", kind="evaluate", name="train/clean", payload=clean)
        keys = {node.name: node.key for node in (stored, test)}
        log.trial(TrialRecord(f"{number:010x}-s0", number, case, {}, 0, f"{number:040x}", keys), [stored, test])
        facts = {"accounting": {"total": total, "images": images}, "source_images": 100}
        finish(workspace, stored, {"bytes": float(total), "bytes_per_image": total / images}, facts)
        finish(workspace, test, {"top1": top1}, {})
    log.close()
    return load_sweep(workspace, record.ref)


def test_cost_is_what_is_stored_over_the_images_of_the_source(workspace: Workspace) -> None:
    found = sweep_frontier(workspace, policies(workspace))
    assert found.metric == "train/top1"
    assert {(p.name, p.family, p.cost, p.value, p.images) for p in found.points} == {
        ("jpeg 5", "jpeg", 400.0, 0.5, 100), ("scores", "c_score", 200.0, 0.4, 20),
        ("half", "fraction", 300.0, 0.3, 50), ("tokens", "tokens", 50.0, 0.45, 100),
    }  # fmt: skip


def test_the_front_leaves_out_what_is_dearer_and_no_better(workspace: Workspace) -> None:
    found = sweep_frontier(workspace, policies(workspace))
    assert [point.name for point in found.front()] == ["tokens", "jpeg 5"]


def test_a_run_is_a_point_for_its_task_with_its_spread_over_seeds(workspace: Workspace) -> None:
    record = recorded_run(workspace)
    for node in record.nodes:
        if node.kind in ("tokens", "evaluate"):
            top1 = 0.9 if node.seed == 0 else 0.8
            finish(workspace, node, {"top1": top1} if node.kind == "evaluate" else {}, FACTS)
    (point,) = run_frontier(workspace, record).points
    assert (point.name, point.family, point.n) == ("recorded", "tokens", 2)
    assert point.cost == FACTS["accounting"]["total"] / 1257  # type: ignore[index]
    assert point.value == pytest.approx(0.85)
    # Student's t for one degree of freedom, times the standard error of two values 0.1 apart.
    assert point.half == pytest.approx(12.7062 * 0.05, rel=1e-4)


def test_published_points_are_the_papers_gigabytes_over_imagenets_images() -> None:
    found = with_published(Frontier("train/top1", ()), "seit/table-b5")
    jpeg = {point.name: point for point in found.of("jpeg", published=True)}
    point = jpeg["JPEG quality factor 5"]
    assert point.cost == pytest.approx(11 * 2**30 / IMAGENET_IMAGES)
    assert point.value == pytest.approx(0.746)
    names = {family: len(found.of(family, published=True)) for family in found.families}
    assert names == {"fraction": 9, "c_score": 8, "jpeg": 9, "resize": 9, "tokens": 2}
    assert "6 rows of more images than those are left out" in found.remarks[0]


def test_published_points_stand_beside_a_sweep_that_names_their_table(workspace: Workspace) -> None:
    found = sweep_frontier(workspace, policies(workspace, "seitpp/table-1"))
    assert {point.table for point in found.points} == {"", "seitpp/table-1"}
    assert [point.name for point in found.of("tokens", published=True)] == ["SeiT", "SeiT++"]
    assert {point.name for point in found.front()} == {"tokens", "jpeg 5"}  # published ones do not push ours out


def test_a_table_without_bytes_is_refused_by_name_and_left_out_of_a_sweep(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="no columns `method`, `storage_gb`"):
        with_published(Frontier("train/top1", ()), "seitpp/table-7")
    assert len(sweep_frontier(workspace, policies(workspace, "seitpp/table-7")).points) == 4


def test_the_plot_names_every_family_once_and_its_points_on_hover(workspace: Workspace) -> None:
    found = sweep_frontier(workspace, policies(workspace, "seit/table-b5"))
    drawn = frontier_svg(found)
    for text in ("tokens, published", "JPEG quality, published", "fewer images, by C-score", "resolution, published"):
        assert drawn.count(f">{text}<") == 1
    assert "<title>jpeg 5: 50.0 % at 400 bytes</title>" in drawn
    assert "stored bytes per image of the source" in drawn
    assert frontier_svg(Frontier("top1", found.points[:1])) == ""


def test_pictures_are_files_of_their_own(workspace: Workspace) -> None:
    found = sweep_frontier(workspace, policies(workspace))
    assert frontier_file(found, ".png").startswith(b"\x89PNG")
    text = frontier_file(found, ".svg").decode()
    assert "<svg" in text
    assert "#010203" not in text  # the stand-in for a page's ink
    assert frontier_file(found, ".svg") == frontier_file(found, ".svg")


def test_the_table_lists_ours_by_cost_and_marks_the_front(workspace: Workspace) -> None:
    sheet = frontier_sheet(sweep_frontier(workspace, policies(workspace)))
    assert [row[0] for row in sheet.rows] == ["tokens", "scores", "half", "jpeg 5"]
    assert sheet.marks == ("best", "", "", "best")
    assert sheet.rows[0][1:6] == ("tokens", "50", "5 kB", "100", "45.00 % (n=1)")


def test_a_sweep_of_several_policies_has_the_plot_on_its_page(workspace: Workspace) -> None:
    page = sweep_html(workspace, policies(workspace))
    assert "<h2>Storage policies</h2>" in page
    assert "each family's own front" in page.replace("&#x27;", "'")


def test_several_refs_are_one_report_in_every_form(workspace: Workspace, tmp_path: Path) -> None:
    policies(workspace)
    record = recorded_run(workspace, seeds=(0,))
    for node in record.nodes:
        if node.kind in ("tokens", "evaluate"):
            finish(workspace, node, {"top1": 0.6} if node.kind == "evaluate" else {}, FACTS)
    for ending in (".html", ".md", ".csv", ".png", ".svg"):
        file = tmp_path / f"x{ending}"
        assert report(["policies", "recorded"], workspace.root, file, "seit/table-b5", json=False) == 0
        assert file.stat().st_size > 500
    with (tmp_path / "x.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["name"] for row in rows if not row["table"]] == ["recorded", "tokens", "scores", "half", "jpeg 5"]
    assert len([row for row in rows if row["table"] == "seit/table-b5"]) == 37
    with pytest.raises(InputError, match=r"written as \.html, \.csv, \.md, \.png or \.svg, not as \.pdf"):
        report(["policies", "recorded"], workspace.root, tmp_path / "x.pdf", None, json=False)


def test_one_ref_without_a_picture_keeps_its_own_report(workspace: Workspace, tmp_path: Path) -> None:
    policies(workspace)
    assert report(["policies"], workspace.root, tmp_path / "x.html", None, json=False) == 0
    assert "<h2>Cases</h2>" in (tmp_path / "x.html").read_text()


def test_nothing_to_draw_is_said(workspace: Workspace, tmp_path: Path) -> None:
    recorded_run(workspace)
    with pytest.raises(InputError, match="no policy has a result"):
        report(["recorded"], workspace.root, tmp_path / "x.png", None, json=False)


def test_joined_frontiers_keep_each_point_once() -> None:
    one = Frontier("train/top1", (FrontierPoint("a", "jpeg", 1.0, 0.5),))
    other = Frontier("finetune/top1", (FrontierPoint("a", "jpeg", 1.0, 0.5), FrontierPoint("b", "jpeg", 2.0, 0.6)))
    assert [point.name for point in joined([one, other]).points] == ["a", "b"]
    assert joined([one, other]).metric == "top1"
    assert joined([one, one]).metric == "train/top1"
