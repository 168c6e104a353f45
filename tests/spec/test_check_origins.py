"""References to other experiments: each that cannot be followed is one problem at its place, before any work."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.spec.specs import problems_of
from tokexp.verbs.specs import validate

STUDENT = """\
schema: 1
data: {kind: digits}
model: {kind: vit, width: 32, depth: 1, heads: 2, input: pixels, stem: {kind: patchify, patch_size: 2}}
objective:
  kind: dtm
  blocks: {smallest: 2}
  target:
    kind: teacher
    from: {experiment: other.yaml, stage: pretrain}
tasks: {finetune: {kind: classify}}
"""

OTHER = """\
schema: 1
data: {kind: digits}
model: {kind: vit, width: 48, depth: 1, heads: 2, input: pixels, stem: {kind: patchify, patch_size: 2}}
objective: {kind: supervised}
tasks: {big: {kind: classify, init: scratch}}
seeds: [5, 6]
"""

TOKENS = """\
tokenizer: {kind: patch_kmeans, patch_size: 2}
model: {kind: vit, width: 32, depth: 1, heads: 2, stem: {kind: patchify, patch_size: 1}}
"""

AT = "objective.target.from"


def found(folder: Path, other: str | None = OTHER, student: str = STUDENT) -> list[str]:
    """Return the problems of a student as `LINE:COLUMN: PATH: message`, the other experiment beside it."""
    if other is not None:
        (folder / "other.yaml").write_text(other)
    problems = problems_of(folder, student)
    assert all(each.file == str(folder / "spec.yaml") for each in problems)
    return [f"{each.line}:{each.column}: {each.path}: {each.message}".replace(f"{folder}/", "") for each in problems]


def with_model(text: str, model: str) -> str:
    return "\n".join(model.strip() if line.startswith("model:") else line for line in text.splitlines()) + "\n"


@pytest.mark.parametrize(
    "origin", ["stage: pretrain", "stage: big", "stage: big, seed: 6", "stage: big, set: {seeds: [1]}"]
)
def test_what_the_other_experiment_trains_can_be_taken(tmp_path: Path, origin: str) -> None:
    assert found(tmp_path, student=STUDENT.replace("stage: pretrain", origin)) == []


def test_a_file_that_is_not_there_is_said_where_it_is_named(tmp_path: Path) -> None:
    assert found(tmp_path, None) == [f"9:24: {AT}.experiment: other.yaml: no such file"]


def test_a_folder_is_no_experiment(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").mkdir()
    assert found(tmp_path, None) == [f"9:24: {AT}.experiment: other.yaml: a folder; name a YAML file in it"]


def test_a_sweep_is_no_experiment(tmp_path: Path) -> None:
    sweep = "schema: 1\nname: many\nexperiment: base.yaml\ngrid: {seeds: [0]}\n"
    assert found(tmp_path, sweep) == [f"9:24: {AT}.experiment: other.yaml is a sweep; name an experiment"]


def test_a_stage_that_the_other_does_not_have_is_said_with_those_that_it_has(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, student=STUDENT.replace("stage: pretrain", "stage: pretran"))
    assert problem == (
        f"9:43: {AT}.stage: other.yaml trains no encoder in a stage 'pretran'; it has pretrain or big; "
        "did you mean pretrain?"
    )


def test_an_experiment_that_stops_at_tokens_trains_nothing(tmp_path: Path) -> None:
    other = with_model(OTHER, TOKENS) + "until: tokens\n"
    (problem,) = found(tmp_path, other)
    assert problem == f"9:43: {AT}.stage: other.yaml trains no encoder in a stage 'pretrain'; it has none"


def test_a_seed_that_the_other_does_not_have_is_said(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, student=STUDENT.replace("stage: pretrain", "stage: pretrain, seed: 0"))
    assert problem == f"9:59: {AT}.seed: other.yaml has no seed 0; its seeds are 5 or 6"


def test_an_other_experiment_that_is_not_valid_is_one_problem(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, OTHER.replace("width: 48", "widht: 48").replace("supervised", "supervize"))
    assert problem.startswith(
        f"9:24: {AT}.experiment: other.yaml is not a valid experiment: other.yaml:3:20: model.widht: unknown field"
    )
    assert problem.endswith("(and 1 more)")


def test_text_that_is_not_yaml_is_one_problem(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, "schema: 1\ndata: {kind: [\n")
    assert problem.startswith(f"9:24: {AT}.experiment: other.yaml is not a valid experiment: other.yaml:")


def test_what_cannot_work_in_the_other_experiment_is_said_too(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, OTHER.replace("patch_size: 2", "patch_size: 3"))
    assert problem.startswith(f"9:24: {AT}.experiment: other.yaml is not a valid experiment: other.yaml:3:")


def test_a_wrong_value_laid_over_the_other_is_said_at_that_value(tmp_path: Path) -> None:
    laid = "stage: pretrain, set: {model.width: 64, model.widht: 64}"
    (problem,) = found(tmp_path, student=STUDENT.replace("stage: pretrain", laid))
    assert problem == f"9:89: {AT}.set.model.widht: model.widht: unknown field; did you mean width?"


def test_experiments_that_teach_each_other_are_one_problem(tmp_path: Path) -> None:
    second = STUDENT.replace("other.yaml", "third.yaml")
    (tmp_path / "third.yaml").write_text(STUDENT)
    expected = f"9:24: {AT}.experiment: other.yaml takes its teacher from itself, directly or through others"
    assert found(tmp_path, second) == [expected]
    assert found(tmp_path, STUDENT) == [expected]


def test_an_experiment_that_names_itself_is_one_problem(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, None, STUDENT.replace("other.yaml", "spec.yaml"))
    assert problem.endswith("spec.yaml takes its teacher from itself, directly or through others")


def test_a_fault_further_on_is_said_with_the_way_to_it(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, STUDENT.replace("other.yaml", "third.yaml"))
    assert problem == (
        f"9:24: {AT}.experiment: other.yaml is not a valid experiment: "
        f"other.yaml:9:24: {AT}.experiment: third.yaml: no such file"
    )


def test_an_encoder_of_something_else_is_refused(tmp_path: Path) -> None:
    (problem,) = found(tmp_path, student=with_model(STUDENT, TOKENS))
    assert problem == f"10:43: {AT}.stage: other.yaml trains an encoder of pixels, and this model reads tokens"
    swin = (
        "model: {kind: swin, width: 16, depths: [1], heads: [1], input: pixels, stem: {kind: patchify, patch_size: 2}}"
    )
    (problem,) = found(tmp_path, with_model(OTHER, swin))
    assert "trains a swin in pretrain, which keeps no single patches; teach by a vit" in problem


@pytest.mark.parametrize(
    ("stem", "words"), [("4", "of 2 x 2 patches, and this model has 4 x 4"), ("3", "cannot cut 8 x 8 pixels")]
)
def test_an_encoder_of_other_patches_is_refused(tmp_path: Path, stem: str, words: str) -> None:
    big = OTHER.replace("{kind: digits}", "{kind: image_folder, root: r, image_size: 12}")
    (problem,) = found(tmp_path, big.replace("patch_size: 2", f"patch_size: {stem}"))
    assert words in problem


def test_an_encoder_of_another_part_of_the_grid_is_refused(tmp_path: Path) -> None:
    part = TOKENS.replace("patch_size: 1}}", "patch_size: 1}, grid: 2}")
    (problem,) = found(tmp_path, with_model(OTHER, part), with_model(STUDENT, TOKENS))
    assert "of 2 x 2 tokens, and this model reads 4 x 4" in problem


def test_blocks_whose_biases_are_of_all_patches_cannot_merge_some(tmp_path: Path) -> None:
    biased = with_model(OTHER, OTHER.splitlines()[2].replace("depth: 1", "depth: 1, positions: relative_shared"))
    inside = STUDENT.replace("kind: dtm\n", "kind: dtm\n  grouper: {kind: layerwise}\n")
    (problem,) = found(tmp_path, biased, inside)
    assert "trains a vit with biases of relative position, and the grouper layerwise merges patches" in problem
    assert found(tmp_path, biased) == found(tmp_path, OTHER, inside) == []


def test_an_encoder_of_another_tokenizers_tokens_is_refused_and_of_the_same_is_not(tmp_path: Path) -> None:
    student, coarse = with_model(STUDENT, TOKENS), TOKENS.replace("patch_size: 2", "patch_size: 2, codebook_size: 8")
    assert found(tmp_path, with_model(OTHER, TOKENS), student) == []
    (problem,) = found(tmp_path, with_model(OTHER, coarse), student)
    assert "trains an encoder of another tokenizer's tokens; use the same tokenizer" in problem


def test_a_file_that_was_corrected_is_read_again(tmp_path: Path) -> None:
    assert found(tmp_path, OTHER.replace("supervised", "supervize")) != []
    assert found(tmp_path, OTHER) == []


def test_a_base_of_the_other_that_changes_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(OTHER)
    assert found(tmp_path, "schema: 1\nextends: base.yaml\n") == []
    (tmp_path / "base.yaml").write_text(OTHER.replace("supervised", "supervize"))
    assert len(found(tmp_path, "schema: 1\nextends: base.yaml\n")) == 1


def test_a_sweep_whose_case_names_an_absent_file_says_so_at_the_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.yaml").write_text(OTHER)
    (tmp_path / "student.yaml").write_text(STUDENT)
    (tmp_path / "sweep.yaml").write_text(
        "schema: 1\nname: s\nexperiment: student.yaml\ncases:\n"
        "  good: {objective.target.from.stage: big}\n"
        "  bad: {objective.target.from.experiment: absent.yaml}\n"
    )
    assert validate([tmp_path / "sweep.yaml"], [], json=False) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith(f"{tmp_path}/sweep.yaml:6:")
    assert errors[0].endswith("absent.yaml: no such file")
    assert errors[1:] == ["1 error"]


@pytest.mark.parametrize("verb", ["validate", "plan", "run"])
def test_no_verb_loads_torch_or_shows_a_traceback(tmp_path: Path, verb: str) -> None:
    (tmp_path / "student.yaml").write_text(STUDENT)
    code = """
import sys
from tokexp.cli import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
    workspace = ["--workspace", str(tmp_path / "w")] if verb != "validate" else []
    ended = subprocess.run(
        [sys.executable, "-c", code, verb, str(tmp_path / "student.yaml"), *workspace], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"student.yaml:9:24: {AT}.experiment: {tmp_path}/other.yaml: no such file" in ended.stderr
    assert "Traceback" not in ended.stderr
