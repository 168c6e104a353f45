"""Reading a whole experiment: what comes out, where values come from, and that it stays light and fast."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.spec.specs import GOOD, problems_of, read, write
from tokexp.errors import SpecError
from tokexp.spec.experiment import Experiment
from tokexp.spec.reading import open_document, read_experiment
from tokexp.spec.yaml_tree import to_plain


def test_a_good_spec_becomes_the_experiment_that_its_plain_values_say(tmp_path: Path) -> None:
    spec = read(tmp_path)
    assert spec.experiment == Experiment.model_validate(spec.plain)
    assert spec.text == GOOD
    assert spec.plain == to_plain(spec.tree)
    assert spec.plain["resources"]["default"]["memory"] == "4 GB"


def test_sources_name_the_line_the_override_the_preset_or_the_default(tmp_path: Path) -> None:
    path = write(tmp_path)
    sources = read_experiment(path, ["objective.train.lr=0.1", "track.uri=x"]).sources
    assert sources["tokenizer.codebook_size"] == f"{path}:4"
    assert sources["objective.train.lr"] == "--set"
    assert sources["track.uri"] == "--set"
    assert sources["objective.train.lr_scale"] == "preset paper"
    assert sources["objective.train.optimizer.betas"] == "preset paper"
    assert sources["objective.train.warmup.amount"] == "preset paper"
    assert sources["tasks.finetune.train.warmup.amount"] == f"{path}:24"
    assert sources["tasks.finetune.train.batch_size"] == "preset paper"
    assert sources["tokenizer.seed"] == "default"
    assert sources["augment.pretrain.0.halves.1.0.geometry.rotate"] == f"{path}:11"
    assert sources["resources.default.memory"] == f"{path}:31"
    assert sources["seeds"] == f"{path}:29"


def test_a_preset_that_was_put_aside_is_not_a_source(tmp_path: Path) -> None:
    sources = read(tmp_path, GOOD.replace("epochs: 60", "steps: 7")).sources
    assert sources["objective.train.epochs"] == "default"


def test_sources_name_the_file_that_says_it(tmp_path: Path) -> None:
    base = write(tmp_path, GOOD, "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nschema: 1\nmodel: {depth: 2}\n", "top.yaml")
    sources = read_experiment(path).sources
    assert sources["model.depth"] == f"{path}:3"
    assert sources["model.width"] == f"{base}:6"


def test_every_value_of_the_resolved_spec_has_a_source(tmp_path: Path) -> None:
    spec = read(tmp_path)
    names = set(spec.sources)

    def check(value: object, path: str) -> None:
        if path in names:
            return
        assert isinstance(value, (dict, list)), path
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            check(child, f"{path}.{key}".lstrip("."))

    check(spec.experiment.model_dump(mode="json", by_alias=True), "")
    assert len(names) > 150


def test_one_policy_for_both_phases_keeps_its_lines(tmp_path: Path) -> None:
    head, rest = GOOD.split("augment:")
    text = f"{head}augment:\n  - {{kind: mixup, alpha: 0.5}}\nobjective:{rest.split('objective:')[1]}"
    spec = read(tmp_path, text)
    assert spec.experiment.augment.pretrain == spec.experiment.augment.task != ()
    assert spec.sources["augment.task.0.alpha"].endswith(":8")


def test_references_are_replaced_after_values_are_set(tmp_path: Path) -> None:
    text = GOOD.replace("batch_size: 256", "batch_size: ${tasks.probe.batch_size}")
    text = text.replace("lrs: [0.01, 0.1, 1.0]", "batch_size: 128")
    assert read(tmp_path, text).plain["objective"]["train"]["batch_size"] == 128
    assert read(tmp_path, text, ["tasks.probe.batch_size=64"]).plain["objective"]["train"]["batch_size"] == 64


def test_a_faulty_reference_is_the_only_complaint_about_its_field(tmp_path: Path) -> None:
    text = GOOD.replace("{kind: digits}", "{kind: image_folder, root: ${data.rood}, image_size: 8}")
    assert [problem.path for problem in problems_of(tmp_path, text)] == ["data.root"]


def test_a_document_is_read_once_for_many_sets_of_values(tmp_path: Path) -> None:
    document = open_document(write(tmp_path))
    sizes = [document.read(values={"tokenizer.codebook_size": size}).experiment for size in (8, 16)]
    assert [spec.tokenizer.codebook_size for spec in sizes if spec.tokenizer] == [8, 16]  # type: ignore[union-attr]
    with pytest.raises(SpecError, match=r"--set: tokenizer\.codebook_size: 1 given"):
        document.read(values={"tokenizer.codebook_size": 1})
    assert document.read().experiment.tokenizer.codebook_size == 64  # type: ignore[union-attr]


def test_problems_name_the_file_that_they_are_in(tmp_path: Path) -> None:
    base = write(tmp_path, GOOD.replace("heads: 4", "heads: x"), "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nschema: 1\nmodel: {depth: 0}\n", "top.yaml")
    with pytest.raises(SpecError) as caught:
        read_experiment(path)
    assert [(each.file, each.line) for each in caught.value.problems] == [(str(path), 3), (str(base), 6)]


def test_a_thousand_trials_are_validated_in_seconds_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom tokexp.spec.reading import open_document\n"
        f"document = open_document({str(write(tmp_path))!r})\n"
        "for number in range(1000):\n    document.read(values={'tokenizer.codebook_size': 2 + number})\n"
        "print([name for name in ('torch', 'numpy', 'mlflow', 'optuna', 'pandas') if name in sys.modules])\n"
    )
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
    assert time.perf_counter() - started < 30


def test_importing_the_reader_loads_no_heavy_package() -> None:
    names = "('torch', 'numpy', 'mlflow', 'optuna', 'pandas', 'rich', 'typer', 'jinja2')"
    program = f"import sys, tokexp.spec.reading\nprint([name for name in {names} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
