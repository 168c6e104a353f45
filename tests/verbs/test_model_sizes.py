import json
from pathlib import Path

import pytest

from tokexp.errors import InputError
from tokexp.verbs.model_sizes import show_model

PIXELS = """\
schema: 1
data: {kind: digits}
model: {kind: vit, width: 32, depth: 1, heads: 2, input: pixels, stem: {kind: patchify, patch_size: 2}}
tasks:
  train: {kind: classify, terms: [{kind: token_prop, grid: 4, size: 8, rows: [8]}]}
"""
TOKENS = """\
schema: 1
data: {kind: digits}
tokenizer: {kind: patch_kmeans}
model: {kind: vit, width: 32, depth: 1, heads: 2, stem: {kind: conv2x2}}
tasks: {probe: {kind: probe}}
"""
AWAY = """\
schema: 1
data: {kind: image_folder, root: nowhere, image_size: 32}
model: {kind: vit, size: tiny, input: pixels, stem: {kind: patchify, patch_size: 4}}
tasks: {probe: {kind: probe}}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "spec.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_table_names_the_parts_and_what_they_were_counted_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_model(written(tmp_path, PIXELS), [], False) == 0
    found = capsys.readouterr().out
    for word in ("stem", "blocks", "head", "model", "token_prop, in training alone", "1 x 8 x 8 pixels", "GFLOPs"):
        assert word in found


def test_json_holds_every_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_model(written(tmp_path, PIXELS), ["model.width=64"], True) == 0
    found = json.loads(capsys.readouterr().out)
    parts = {part["name"]: part for part in found["parts"]}
    assert (found["channels"], found["grid"], found["classes"]) == (1, [8, 8], 10)
    assert parts["stem"]["parameters"] == 5 * 64
    assert parts["model"]["parameters"] == sum(parts[name]["parameters"] for name in ("stem", "blocks", "head"))


def test_a_model_of_tokens_is_counted_on_its_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_model(written(tmp_path, TOKENS), ["model.grid=2"], True) == 0
    assert json.loads(capsys.readouterr().out)["grid"] == [2, 2]


def test_data_that_is_not_here_leaves_the_head_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_model(written(tmp_path, AWAY), [], True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] is None
    assert "head" not in {part["name"] for part in found["parts"]}
    (whole,) = [part["parameters"] for part in found["parts"] if part["name"] == "model"]
    assert show_model(written(tmp_path, AWAY), [], False) == 0
    assert f"with 1,000 of them, as papers on ImageNet-1k count: {(whole + 193 * 1000) / 1e6:.2f} M" in " ".join(
        capsys.readouterr().out.split()
    )


def test_a_sweep_has_no_model_to_show(tmp_path: Path) -> None:
    file = written(tmp_path, "schema: 1\nname: s\nexperiment: spec.yaml\n")
    with pytest.raises(InputError, match="no experiment"):
        show_model(file, [], False)
