"""The verbs that set runs and sweeps side by side, as they are called; and what they load."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recorded import recorded_run, run_all, workspace_at
from tests.recorded_sweeps import recorded_sweep
from tokexp.errors import InputError
from tokexp.ledger.workspace import Workspace
from tokexp.verbs import comparing, showing

CASES = {"SeiT": {0: 0.70, 1: 0.72, 2: 0.71}, "color": {0: 0.73, 1: 0.74, 2: 0.735}, "half": {0: 0.8, 1: "failed"}}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = workspace_at(tmp_path)
    recorded_sweep(workspace, CASES, baseline="SeiT")
    return workspace


def test_a_sweep_is_compared_case_by_case(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert comparing.compare(["ablation"], workspace.root, None, None, json=False) == 0
    text = capsys.readouterr().out
    assert "+2.50 \u00b1 1.24" in text
    assert text.index("ablation:SeiT") < text.index("ablation:color") < text.index("ablation:half")


def test_comparing_as_json_has_the_numbers_by_seed(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert comparing.compare(["ablation:SeiT", "ablation:color"], workspace.root, None, None, json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["per_seed"]["finetune/top1"]["1"] for entry in found["entries"]] == [0.72, 0.74]
    row = next(row for row in found["rows"] if row["name"] == "ablation:color" and row["metric"] == "finetune/top1")
    assert row["difference mean"] == pytest.approx(0.025)


def test_chosen_metrics_are_shown(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    comparing.compare(["ablation"], workspace.root, "finetune/loss", None, json=False)
    text = capsys.readouterr().out
    assert "finetune/loss" in text
    assert "finetune/top1" not in text
    with pytest.raises(InputError, match=r"none of them has probe/top1; there are .*finetune/top1"):
        comparing.compare(["ablation"], workspace.root, "probe/top1", None, json=False)


def test_what_is_named_twice_is_one_line(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    comparing.compare(["ablation", "ablation:color", "ablation"], workspace.root, None, None, json=True)
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)["entries"]]
    assert names == ["ablation:SeiT", "ablation:color", "ablation:half"]
    with pytest.raises(InputError, match="nothing to compare"):
        comparing.compare(["ablation:SeiT", "ablation:SeiT"], workspace.root, None, None, json=False)


def test_one_line_is_nothing_to_compare(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        comparing.compare(["ablation:SeiT"], workspace.root, None, None, json=False)


def test_a_leaderboard_names_places_and_can_be_short(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run_all(workspace, recorded_run(workspace), steps=2)
    assert comparing.leaderboard(workspace.root, None, None, 2, json=False) == 0
    text = capsys.readouterr().out
    assert "recorded-abababab" in text
    assert "and 2 more" in text
    comparing.leaderboard(workspace.root, "finetune/top1", None, 1, json=True)
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["recorded-abababab"]


def test_tables_go_to_files(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "t.csv"
    assert comparing.compare(["ablation"], workspace.root, None, target, json=False) == 0
    told = capsys.readouterr()
    assert "ablation:half" in told.out
    assert str(target) in told.err
    assert len(list(csv.DictReader(target.open()))) == 3 * 5
    comparing.leaderboard(workspace.root, None, tmp_path / "t.md", 20, json=True)
    assert json.loads(capsys.readouterr().out)["file"] == str(tmp_path / "t.md")
    assert "| 1 | ablation:half |" in (tmp_path / "t.md").read_text()
    with pytest.raises(InputError, match=r"\.csv or \.md, not as \.xlsx"):
        comparing.compare(["ablation"], workspace.root, None, tmp_path / "t.xlsx", json=False)
    with pytest.raises(InputError, match="cannot write"):
        comparing.compare(["ablation"], workspace.root, None, target / "t.csv", json=False)


def test_report_knows_sweeps(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert showing.report("ablation", workspace.root, tmp_path, json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ref"] == "ablation-abababab"
    assert Path(found["file"]) == tmp_path / "ablation-abababab.html"
    assert "<h2>Cases</h2>" in Path(found["file"]).read_text()
    showing.report("ablation", workspace.root, tmp_path / "r.csv", json=True)
    names = [Path(name).name for name in json.loads(capsys.readouterr().out)["files"]]
    assert names == ["r.csv", "r.trials.csv", "r.stages.csv"]
    assert all((tmp_path / name).is_file() for name in names)
    showing.report("ablation", workspace.root, tmp_path / "r.md", json=False)
    text = (tmp_path / "r.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Cases", "## Trials", "## Failures", "## Stages",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"\.html, \.csv or \.md, not as \.pdf"):
        showing.report("ablation", workspace.root, tmp_path / "r.pdf", json=False)
    with pytest.raises(InputError, match=r"no sweep 'ablate'.*nearest: ablation-abababab"):
        showing.report("ablate", workspace.root, tmp_path, json=False)


@pytest.mark.parametrize("verb", ["compare", "leaderboard", "report"])
def test_tables_load_neither_torch_nor_mlflow_nor_optuna(workspace: Workspace, tmp_path: Path, verb: str) -> None:
    calls = {
        "compare": "comparing.compare(['ablation'], ROOT, None, None, False)",
        "leaderboard": "comparing.leaderboard(ROOT, None, None, 20, False)",
        "report": f"showing.report('ablation', ROOT, {str(tmp_path / 'x.csv')!r}, False)",
    }
    program = (
        f"import sys\nROOT = {str(workspace.root)!r}\nfrom tokexp.verbs import comparing, showing\n{calls[verb]}\n"
        "heavy = ('torch', 'mlflow', 'optuna', 'pandas', 'matplotlib', 'scipy.stats')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"
