"""validate, show, schema and list: what they print, where, and their exit codes."""

import json
from pathlib import Path

import pytest

from tests.spec.specs import GOOD, write
from tests.spec.sweeps import write_sweep
from tokexp.errors import InputError, SpecError
from tokexp.spec.reading import read_experiment
from tokexp.spec.sweep_reading import read_sweep
from tokexp.verbs import specs


def test_validate_prints_good_files_and_all_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write(tmp_path), write(tmp_path, GOOD.replace("heads: 4", "head: 4").replace("0.75,", "x,"), "bad.yaml")
    assert specs.validate([good, bad], [], False) == 2
    out, err = capsys.readouterr()
    assert out == f"{good}: good\n"
    assert err.splitlines()[0].startswith(f"{bad}:6:41: model.head: unknown field")
    assert err.splitlines()[-1] == "2 errors"


def test_validate_returns_zero_for_good_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert specs.validate([write(tmp_path)], ["tokenizer.codebook_size=8"], False) == 0
    assert capsys.readouterr().err == ""


def test_validate_prints_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = write(tmp_path), tmp_path / "no.yaml"
    assert specs.validate([good, bad], [], True) == 2
    files = json.loads(capsys.readouterr().out)["files"]
    assert [(row["file"], row["good"]) for row in files] == [(str(good), True), (str(bad), False)]
    assert files[1]["problems"] == [
        {"file": str(bad), "line": None, "column": None, "path": "", "message": "no such file"}
    ]


@pytest.mark.parametrize("sources", [False, True])
def test_show_prints_a_spec_that_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str], sources: bool) -> None:
    path = write(tmp_path)
    assert specs.show(path, ["seeds=[7]"], sources, False) == 0
    again = write(tmp_path, capsys.readouterr().out, "again.yaml")
    assert read_experiment(again).experiment == read_experiment(path, ["seeds=[7]"]).experiment


def test_show_prints_json_with_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    specs.show(write(tmp_path), [], True, True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["spec"]["tokenizer"]["codebook_size"] == 64
    assert shown["sources"]["tokenizer.seed"] == "default"


def test_show_raises_the_problems_of_a_bad_spec(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        specs.show(tmp_path / "no.yaml", [], False, False)


@pytest.mark.parametrize("of", ["experiment", "sweep", "cluster"])
def test_schema_is_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str], of: str) -> None:
    assert specs.schema(of, None, False) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["title"] == f"tokexp {of}"
    assert specs.schema(of, tmp_path / "schema.json", True) == 0
    assert json.loads((tmp_path / "schema.json").read_text(encoding="utf-8")) == printed
    assert json.loads(capsys.readouterr().out) == {"written": str(tmp_path / "schema.json")}
    with pytest.raises(InputError, match="cannot be written"):
        specs.schema(of, tmp_path / "no" / "schema.json", False)


PROFILE = "schema: 1\npartition: gpu\noptions: {exclusive: true}\n"


def test_validate_says_what_a_good_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_sweep(
        tmp_path, "grid: {tokenizer.codebook_size: [8, 16, 64]}\ncases: {a: {}, b: {tokenizer.seed: 1}}\n"
    )
    search = write_sweep(tmp_path, "space: {tokenizer.seed: {int: [0, 9]}}\nbudget: {trials: 6}\n", name="search.yaml")
    every = write_sweep(tmp_path, "space: {tokenizer.seed: {int: [0, 9]}}\nsampler: {kind: grid}\n", name="every.yaml")
    one = write_sweep(tmp_path, "seeds: [0]\n", name="one.yaml")
    profile = write(tmp_path, PROFILE, "profile.yaml")
    assert specs.validate([table, search, every, one, profile], [], False) == 0
    assert capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines() == [
        "sweep.yaml: good (12 trials)", "search.yaml: good (searched, at most 6 trials)", "every.yaml: good (searched)",
        "one.yaml: good (1 trial)", "profile.yaml: good (cluster profile)",
    ]  # fmt: skip
    assert specs.validate([table, profile], [], True) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [(row["part"], row.get("trials")) for row in files] == [("sweep", 12), ("cluster", None)]


def test_validate_says_all_that_is_wrong_with_a_sweep_and_a_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_sweep(tmp_path, "grid: {tokenizer.codebok_size: [8]}\nbaseline: x\n")
    profile = write(tmp_path, PROFILE + "requeu: true\n", "profile.yaml")
    assert specs.validate([table, profile], [], False) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.replace(f"{tmp_path}/", "").splitlines() == [
        "sweep.yaml:4:8: grid.tokenizer.codebok_size: unknown field; did you mean codebook_size?",
        "sweep.yaml:5:11: baseline: 'x' given; no case or point has this name; there are codebok_size=8",
        "profile.yaml:4:1: requeu: unknown field; did you mean requeue?",
        "3 errors",
    ]


@pytest.mark.parametrize("sources", [False, True])
def test_show_prints_a_sweep_that_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str], sources: bool) -> None:
    path = write_sweep(tmp_path, "cases: {a: {augment.task: '${policies.p}'}}\npolicies: {p: [{kind: mixup}]}\n")
    assert specs.show(path, ["seeds=[7]"], sources, False) == 0
    text = capsys.readouterr().out
    assert ("# --set" in text) is sources
    assert read_sweep(write(tmp_path, text, "again.yaml")).sweep == read_sweep(path, ["seeds=[7]"]).sweep


def test_show_prints_a_profile_with_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = write(tmp_path, PROFILE, "profile.yaml")
    assert specs.show(profile, [], True, True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["spec"]["options"] == {"exclusive": True}
    assert shown["sources"]["partition"] == f"{profile}:2"
    assert shown["sources"]["max_array"] == "default"


def test_list_prints_one_block_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert specs.list_kinds("objective", False) == 0
    table = capsys.readouterr().out
    assert "mtm" in table
    assert "patch_kmeans" not in table
    assert specs.list_kinds(None, True) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"kind": "digits"}.items() <= rows["data"][0].items()
    with pytest.raises(InputError, match="did you mean objective"):
        specs.list_kinds("objectives", False)
