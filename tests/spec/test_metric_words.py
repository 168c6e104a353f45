"""The metrics that the language knows of a stage are those that its results have."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from tests.objectives.test_compiled import SMALL, batch_for, built
from tests.spec.specs import GOOD, read, write
from tests.spec.sweeps import sweep, sweep_problems
from tokexp.data.base import Batch
from tokexp.evaluation.base import accuracies
from tokexp.spec.metric_words import ACCURACIES, HELD_OUT, metric_words, pretrained_words
from tokexp.spec.objectives import ObjectiveSpec
from tokexp.spec.sweep_reading import read_sweep
from tokexp.tasks.held_out import measure

PIXELS = """\
schema: 1
data: {kind: digits}
storage: {reduce: {kind: jpeg, quality: 20}}
model: {kind: vit, width: 32, depth: 1, heads: 2, input: pixels, stem: {kind: patchify, patch_size: 4}}
tasks: {a: {kind: classify}}
"""


def test_accuracies_have_the_names_that_evaluations_give_them() -> None:
    assert set(accuracies(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))) == ACCURACIES


def test_held_out_images_give_the_names_that_validation_promises() -> None:
    batch = Batch(torch.zeros(2, dtype=torch.int64), 3, values=torch.zeros(2, 3))
    assert set(measure(lambda values: values, [batch])) == HELD_OUT


def test_a_task_with_terms_or_of_an_unknown_stage_may_report_anything(tmp_path: Path) -> None:
    experiment = read(tmp_path).experiment
    assert metric_words(experiment, "tokenizer") is None
    with_term = read(tmp_path, GOOD, ["objective.terms=[{kind: token_prop}]"]).experiment
    assert metric_words(with_term, "pretrain") is None
    assert metric_words(experiment, "probe") == ACCURACIES | {"select_top1", "lr"}


@pytest.mark.parametrize("kind", SMALL)
def test_objectives_report_what_the_language_knows_of_them(kind: str) -> None:
    objective = built(kind)
    spec: Any = TypeAdapter(ObjectiveSpec).validate_python({"kind": kind, **SMALL[kind]})
    output = objective(batch_for(objective, kind, 0), torch.Generator().manual_seed(0))
    assert pretrained_words(spec) == (None if kind == "dtm" else {"loss", "lr", *output.metrics})


def test_a_misspelt_metric_of_the_pretraining_is_found(tmp_path: Path) -> None:
    text = "grid: {tasks.finetune.train.lr: [0.1, 0.2]}\nmetrics: [{name: pretrain/acuracy, direction: maximize}]"
    [problem] = sweep_problems(tmp_path, text)
    assert "pretrain reports no acuracy; did you mean accuracy?" in problem.message
    assert sweep_problems(tmp_path, text.replace("acuracy", "mask_ratio")) == []


def test_one_of_several_objectives_may_bring_the_metric(tmp_path: Path) -> None:
    text = "cases: {plain: {}, with: {objective.terms: [{kind: token_prop}]}}\n"
    text += "metrics: [{name: pretrain/token_prop, direction: minimize}]"
    assert sweep_problems(tmp_path, text) == []


def test_averaged_weights_and_held_out_images_add_their_metrics(tmp_path: Path) -> None:
    changed = ["tasks.finetune.validation.fraction=0.2", "tasks.finetune.train.ema=0.99"]
    words = metric_words(read(tmp_path, GOOD, changed).experiment, "finetune")
    assert words is not None
    assert words >= {"top1_average", "val_top1", "val_loss", "loss"}


@pytest.mark.parametrize("metric", ["storage/bytes_per_image", "storage/bytes", "storage/quality", "a/top1"])
def test_a_sweep_of_stored_images_can_ask_for_their_bytes(tmp_path: Path, metric: str) -> None:
    write(tmp_path, PIXELS, "pixels.yaml")
    text = "schema: 1\nexperiment: pixels.yaml\ngrid: {storage.reduce.quality: [5, 50]}\n"
    file = write(tmp_path, text + f"metrics: [{{name: {metric}, direction: minimize}}]\n", "sweep.yaml")
    assert read_sweep(file).sweep.metrics[0].name == metric


def test_a_space_may_bring_the_metric_that_it_is_searched_by(tmp_path: Path) -> None:
    text = "space: {tasks.finetune.validation.fraction: {float: [0.1, 0.3]}}\nbudget: {trials: 2}\n"
    text += "metrics: [{name: finetune/val_top1, direction: maximize}]"
    assert sweep_problems(tmp_path, text) == []
    assert sweep(tmp_path, text).sweep.metrics[0].name == "finetune/val_top1"
