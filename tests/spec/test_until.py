"""Experiments that end with their tokens: what is needed, what is planned, what a sweep may measure."""

from pathlib import Path

import pytest

from tokexp.errors import SpecError
from tokexp.plan.graph import build_plan
from tokexp.plan.sweep import build_sweep_plan
from tokexp.spec.reading import read_experiment
from tokexp.spec.sweep_reading import read_sweep

TOKENS = "schema: 1\ndata: {kind: digits}\ntokenizer: {kind: patch_kmeans}\n"
WHOLE = TOKENS + "model: {kind: vit, width: 16, depth: 1, heads: 2, stem: {kind: conv2x2}}\ntasks: {a: {kind: probe}}\n"


def spec(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    return file


def messages(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read_experiment(spec(tmp_path, text))
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def test_an_experiment_that_ends_with_its_tokens_needs_no_task(tmp_path: Path) -> None:
    assert "nothing to do" in messages(tmp_path, TOKENS)[0]
    experiment = read_experiment(spec(tmp_path, TOKENS + "until: tokens\n")).experiment
    assert [node.kind for node in build_plan(experiment).nodes] == ["tokenizer", "tokens"]


def test_its_stages_are_those_of_the_whole_experiment(tmp_path: Path) -> None:
    file = spec(tmp_path, WHOLE)
    whole = {node.name: node.key for node in build_plan(read_experiment(file).experiment).nodes}
    part = {node.name: node.key for node in build_plan(read_experiment(file, ["until=tokens"]).experiment).nodes}
    assert part == {name: whole[name] for name in ("tokenizer", "tokens")}


def test_a_model_that_fits_no_grid_is_no_matter_then(tmp_path: Path) -> None:
    text = TOKENS + "model: {kind: vit, input: pixels, stem: {kind: patchify, patch_size: 16}}\nuntil: tokens\n"
    assert len(build_plan(read_experiment(spec(tmp_path, text)).experiment).nodes) == 2


def test_tokens_need_a_tokenizer(tmp_path: Path) -> None:
    text = "schema: 1\ndata: {kind: digits}\nmodel: {kind: vit, input: pixels}\nuntil: tokens\n"
    assert messages(tmp_path, text) == ["tokenizer: missing; it makes the tokens that are to be stored"]


def test_tasks_need_images_that_are_held_out(tmp_path: Path) -> None:
    data = "{kind: image_folder, root: r, image_size: 8, test_fraction: 0.0}"
    text = WHOLE.replace("{kind: digits}", data)
    assert messages(tmp_path, text)[0].startswith("data.test_fraction: 0 given; tests need images that are held out")
    read_experiment(spec(tmp_path, text + "until: tokens\n"))


def test_a_sweep_over_tokenizers_measures_their_bytes(tmp_path: Path) -> None:
    spec(tmp_path, TOKENS + "until: tokens\n")
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("schema: 1\nname: s\nexperiment: spec.yaml\ngrid: {tokenizer.codebook_size: [4, 8]}\n")
    read = read_sweep(sweep)
    assert [(metric.name, metric.direction) for metric in read.sweep.metrics] == [
        ("storage/bytes_per_image", "minimize")
    ]
    assert len(build_sweep_plan(read).plan.nodes) == 4


def test_losses_of_a_tokenizer_that_its_images_are_too_small_for_are_refused(tmp_path: Path) -> None:
    for field, path in (("adversarial: {}", "adversarial.layers"), ("perceptual: {vgg: f.pth}", "perceptual")):
        text = f"schema: 1\ndata: {{kind: digits}}\ntokenizer: {{kind: vqvae, {field}}}\nuntil: tokens\n"
        assert [line.split(":")[0] for line in messages(tmp_path, text)] == [f"tokenizer.{path}"]


def test_gpus_and_processes_are_not_asked_for_together(tmp_path: Path) -> None:
    text = TOKENS + "until: tokens\nresources: {tokens: {gpus: 2, processes: 2}}\n"
    assert [line.split(":")[0] for line in messages(tmp_path, text)] == ["resources.tokens.processes"]
