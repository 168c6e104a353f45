"""Names of points: short, readable, and different for different values."""

from pathlib import Path

import pytest

from tests.spec.sweeps import sweep
from tokexp.spec.laying import laid_plain, refusal, short_names


def _names(folder: Path, text: str) -> list[str]:
    return [point.assignment.case for point in sweep(folder, text).points]


def test_a_path_goes_by_its_shortest_end_that_is_its_own() -> None:
    assert short_names(["a.train.lr", "b.train.lr", "model.width", "width"]) == {
        "a.train.lr": "a.train.lr", "b.train.lr": "b.train.lr", "model.width": "model.width", "width": "width",
    }  # fmt: skip
    assert short_names(["a.b.lr", "c.lr", "a.b.wd"]) == {"a.b.lr": "b.lr", "c.lr": "c.lr", "a.b.wd": "wd"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("grid: {tasks.probe.lrs: [[0.1], [0.1, 1.0]]}", ["lrs=[0.1]", "lrs=[0.1,1.0]"]),
        ("grid: {model.input: [tokens], storage.fraction: [null, 0.5]}",
         ["input=tokens fraction=null", "input=tokens fraction=0.5"]),
        ("grid: {augment.task: ['${policies.a}', '${policies.b}']}\npolicies: {a: [], b: [{kind: mixup}]}",
         ["task=a", "task=b"]),
        ("grid: {storage.codec: [{kind: packed}, {kind: seit}]}", ["codec=packed", "codec=seit"]),
        ("grid: {tokenizer: [{kind: patch_kmeans}, {kind: patch_kmeans, seed: 1}]}", ["tokenizer=#1", "tokenizer=#2"]),
        ("grid: {tasks.probe.lrs: [[0.1], [0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17, 0.18]]}", ["lrs=[0.1]", "lrs=#2"]),
        ("grid: {storage.fraction: [0.5, '${policies.half}']}\npolicies: {half: 0.5}",
         ["fraction=0.5", "fraction=half"]),
    ],
)  # fmt: skip
def test_a_value_goes_by_what_tells_it_from_the_others(tmp_path: Path, text: str, names: list[str]) -> None:
    assert _names(tmp_path, text) == names


def test_equal_values_have_equal_marks_whatever_their_places() -> None:
    one, other = (laid_plain({"a.b": {"x": [1, "y"], "z": 2}}, file)[0] for file in ("f", "g"))
    assert one.mark == other.mark
    assert one.block == "a"
    assert laid_plain({"a.b": 1}, "f")[0].mark != laid_plain({"a.b": True}, "f")[0].mark


@pytest.mark.parametrize(
    ("block", "path", "refused"),
    [("grid", "model.width", False), ("grid", "track.uri", True), ("set", "track.uri", False), ("set", "name", True),
     ("cases", "seeds", True), ("grid", "schema", True), ("grid", "a. b", True), ("grid", "", True),
     ("grid", ".".join("a" * 100), True), ("cases", "resources.default.gpus", False)],
)  # fmt: skip
def test_paths_that_no_experiment_has_are_refused(block: str, path: str, refused: bool) -> None:
    assert bool(refusal(block, path)) is refused
