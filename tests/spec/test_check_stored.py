"""What is found in experiments on token stores from the files' headers, and where it is said."""

from pathlib import Path

import numpy as np
import pytest

from tests.data.stores import BOOK, write
from tests.spec.specs import problems_of, read
from tokexp.errors import SpecError
from tokexp.plan.located import plan_of_file

SPEC = """\
schema: 1
data:
  kind: token_store
  train: {folder}/train.tokens
  test: {folder}/test.tokens
model: {{kind: vit, width: 16, depth: 1, heads: 2, stem: {{kind: conv2x2}}}}
tasks: {{probe: {{kind: probe}}}}
"""


def text(folder: Path, old: str = "", new: str = "") -> str:
    return SPEC.format(folder=folder).replace(old, new)


def located(folder: Path, written: str) -> tuple[int | None, int | None, str, str]:
    with pytest.raises(SpecError) as found:
        plan_of_file(read(folder, written))
    [problem] = found.value.problems
    return problem.line, problem.column, problem.path, problem.message


@pytest.fixture(autouse=True)
def _stores(tmp_path: Path) -> None:
    for name in ("train", "test"):
        write(tmp_path / f"{name}.tokens", grid=(4, 6))


def test_stores_that_fit_are_good(tmp_path: Path) -> None:
    assert problems_of(tmp_path, text(tmp_path)) == []
    assert len(plan_of_file(read(tmp_path, text(tmp_path))).nodes) == 3


@pytest.mark.parametrize(
    ("old", "new", "path", "words"),
    [
        ("heads: 2", "heads: 2, grid: 5", "model.grid", "the stored grid is 4 x 6"),
        ("conv2x2", "patchify, patch_size: 4", "model.stem", "patchify cannot cut 4 x 6 tokens"),
        ("model:", "tokenizer: {kind: patch_kmeans}\nmodel:", "tokenizer", "token_store are tokens already"),
        ("kind: vit, width", "kind: vit, input: pixels, width", "model.input", "token_store have no pixels"),
        ("tasks:", "evaluate: {n: {kind: corruption, name: gaussian_noise, severity: 1}}\ntasks:", "evaluate.n.kind",
         "token_store have none"),
        ("tasks:", "evaluate: {s: {kind: clean, split: select}}\ntasks:", "evaluate.s.split", "select_fraction"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_files_is_found_without_running(
    tmp_path: Path, old: str, new: str, path: str, words: str
) -> None:
    problems = problems_of(tmp_path, text(tmp_path, old, new))
    assert [problem.path for problem in problems] == [path]
    assert words in problems[0].message


def test_images_without_labels_cannot_be_classified_but_can_be_learned_from(tmp_path: Path) -> None:
    write(tmp_path / "train.tokens", grid=(4, 6), num_classes=1)
    [problem] = problems_of(tmp_path, text(tmp_path))
    assert (problem.line, problem.path) == (4, "data.train")
    assert "without labels" in problem.message
    assert "tasks.probe" in problem.message
    assert problems_of(tmp_path, text(tmp_path, "tasks: {probe: {kind: probe}}", "objective: {kind: mtm}")) == []
    assert problems_of(tmp_path, text(tmp_path, "tasks: {probe: {kind: probe}}", "until: tokens")) == []


def test_levels_of_coefficients_are_as_many_places_as_there_are_blocks(tmp_path: Path) -> None:
    facts = {"dct": {"luma": 3, "chroma": 2, "half": True}}  # 4 x 6 blocks: 3 maps, and 2 pairs of half size
    for name in ("train", "test"):
        write(tmp_path / f"{name}.tokens", grid=(3 * 4 + 2 * 2, 6), facts=facts)
    found = read(tmp_path, text(tmp_path)).experiment.data.token_shape()  # type: ignore[union-attr]
    assert (found.grid, found.width) == ((4, 6), 7)


def test_more_codes_than_the_codec_holds_are_found(tmp_path: Path) -> None:
    write(tmp_path / "train.tokens", grid=(4, 6), codes=np.random.default_rng(0).normal(size=(511, 3)))
    [problem] = problems_of(tmp_path, text(tmp_path, "model:", "storage: {codec: {kind: seit}}\nmodel:"))
    assert (problem.path, "at most 510" in problem.message) == ("data.train", True)


def test_files_that_are_not_here_leave_the_spec_good_and_the_plan_names_their_line(tmp_path: Path) -> None:
    (tmp_path / "test.tokens").unlink()
    assert problems_of(tmp_path, text(tmp_path)) == []
    line, column, path, message = located(tmp_path, text(tmp_path))
    assert (line, column, path) == (5, 9, "data.test")
    assert "test.tokens cannot be read (No such file or directory)" in message


def test_files_of_two_tokenizers_are_said_at_the_test_file(tmp_path: Path) -> None:
    write(tmp_path / "test.tokens", grid=(4, 6), codes=BOOK + 1)
    line, _, path, message = located(tmp_path, text(tmp_path))
    assert (line, path) == (5, "data.test")
    assert "not of the same tokenizer" in message
