"""`tokexp plan` of a sweep: counts, what is shared and done, the space of a search; never a line for every trial."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.spec.sweeps import write_sweep
from tokexp.verbs.running import plan

SEARCH = """\
cases: {a: {}, b: {tokenizer.seed: 1}}
space:
  tokenizer.codebook_size: {choice: [8, 16]}
  objective.train.lr: {float: [0.1, 0.2], log: true}
  storage.fraction: {float: [0.1, 1.0], step: 0.1, when: {tokenizer.codebook_size: 8}}
metrics: [{name: finetune/top1, direction: maximize}]
sampler: {kind: nsga2}
constraints: [{metric: storage/bytes_per_image, at_most: 10}]
budget: {trials: 60, parallel: 4}
seeds: [0]
"""


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def shown(path: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    assert plan(path, overrides, path.parent / "ws", False) == 0
    return capsys.readouterr().out


def answer(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert plan(path, [], path.parent / "ws", True) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_head_counts_trials_and_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(tmp_path, "cases: {a: {}, b: {tokenizer.codebook_size: 64}, c: {objective.train.lr: 1}}\n")
    lines = shown(path, capsys).splitlines()
    assert lines[0].startswith(
        "s   4 trials (2 points x 2 seeds)   31 stages, 3 shared, 0 done, 31 to do        about "
    )
    assert lines[1] == "  1 further point came to the same as another and is not run twice"
    assert not (tmp_path / "ws").exists()


def test_a_thousand_trials_take_one_row_for_each_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(tmp_path, f"grid: {{tokenizer.seed: {list(range(500))}}}\n")
    lines = shown(path, capsys).splitlines()
    assert lines[0].startswith("s   1,000 trials (500 points x 2 seeds)   ")
    assert len(lines) == 12
    row = next(line.split() for line in lines if line.split()[0] == "pretrain")
    assert row[:6] == ["pretrain", "mtm", "vit-96x4", "1,000", "0", "0"]
    row = next(line.split() for line in lines if line.split()[0] == "tokens")
    assert row[:6] == ["tokens", "digits,", "packed", "500", "500", "0"]


def test_json_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(write_sweep(tmp_path, "grid: {tokenizer.seed: [0, 1]}\nseeds: [0, 1, 2]\n"), capsys)
    assert (found["name"], found["searched"], found["seeds"]) == ("s", False, [0, 1, 2])
    assert [point["case"] for point in found["points"]] == ["seed=0", "seed=1"]
    assert len(found["trials"]) == 6
    keys = {stage["key"] for stage in found["stages"]}
    assert {key for trial in found["trials"] for key in trial["keys"].values()} == keys
    tokens = [stage for stage in found["stages"] if stage["kind"] == "tokens"]
    assert [(stage["state"], stage["trials"]) for stage in tokens] == [("to do", 3), ("to do", 3)]
    assert found["estimate_s"] == pytest.approx(sum(stage["estimate_s"] for stage in found["stages"]), rel=1e-3)


def test_a_search_shows_its_space_and_one_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(write_sweep(tmp_path, SEARCH), capsys)
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert rows[0] == "s searched by nsga2, at most 60 trials, 1 seed each: maximize finetune/top1"
    for expected in (
        "budget parallel 4", "constraint storage/bytes_per_image at most 10.0", "case one of 2 points",
        "tokenizer.codebook_size one of 8, 16", "objective.train.lr 0.1 to 0.2 (logarithmic)",
        "storage.fraction 0.1 to 1.0 by 0.1 when tokenizer.codebook_size 8",
        "one point as an example: tokenizer.codebook_size 8, objective.train.lr 0.1, storage.fraction 0.1",
    ):  # fmt: skip
        assert expected in rows
    assert any(row.startswith("pretrain mtm") for row in rows)


def test_a_search_as_json_has_its_space_and_the_stages_of_the_example(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(write_sweep(tmp_path, SEARCH), capsys)
    assert found["searched"]
    assert found["space"]["storage.fraction"]["when"] == {"tokenizer.codebook_size": {"one_of": [8]}}
    assert found["budget"]["trials"] == 60
    assert len(found["points"]) == 1
    assert {stage["kind"] for stage in found["stages"]} >= {"tokens", "pretrain", "evaluate"}


def test_data_that_is_not_here_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_sweep(tmp_path, f"set: {{data: {{kind: image_folder, root: {tmp_path}/no, image_size: 8}}}}\n")
    assert plan(path, [], tmp_path / "ws", False) == 0
    out, err = capsys.readouterr()
    assert out.startswith("s   2 trials")
    assert "this plan goes on without the data" in err
