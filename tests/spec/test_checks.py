"""Combinations that cannot work: each is refused at the field to change, and its nearest neighbour is accepted."""

from pathlib import Path

import pytest

from tests.spec.specs import problems_of

_RELEASE = "data: {kind: seit_release, root: r}\n"
_PROBE = "tasks: {probe: {kind: probe}}\n"
_PIXELS = "model: {kind: vit, input: pixels, stem: {kind: patchify, patch_size: 4}}\n"
_MTM = "objective: {kind: mtm}\nmodel: {kind: vit, stem: {kind: conv2x2}}\n"
_KMEANS = "data: {kind: digits}\ntokenizer: {kind: patch_kmeans}\n"


def _problems(folder: Path, body: str) -> list[tuple[str, str]]:
    return [(problem.path, problem.message) for problem in problems_of(folder, "schema: 1\n" + body)]


BAD = {
    "tokens without a tokenizer": ("data: {kind: digits}\n" + _PROBE, "tokenizer", "needs one"),
    "released tokens with a tokenizer": (
        _RELEASE + "tokenizer: {kind: patch_kmeans}\n" + _PROBE, "tokenizer", "tokens already"),
    "released tokens as pixels": (
        _RELEASE + "model: {kind: vit, input: pixels, stem: {kind: patchify}}\n" + _PROBE, "model.input", "no pixels"),
    "a budget on pixels": (
        "data: {kind: digits}\nstorage: {budget: 1 MB}\n" + _PIXELS + _PROBE, "storage.budget", "only stored tokens"),
    "a fraction on pixels": (
        "data: {kind: digits}\nstorage: {fraction: 0.5}\n" + _PIXELS + _PROBE,
        "storage.fraction", "only stored tokens"),
    "an average that nothing uses": (
        "data: {kind: digits}\ntokenizer: {kind: vqvae, train: {ema: 0.9}}\n" + _PROBE,
        "tokenizer.train.ema", "nowhere"),
    "channel statistics of another number of channels": (
        "data: {kind: digits}\n" + _PIXELS.replace("pixels,", "pixels, pixel_norm: imagenet,") + _PROBE,
        "model.pixel_norm", "3 channels"),
    "a token grid on pixels": (
        "data: {kind: digits}\nmodel: {kind: vit, input: pixels, grid: 4, stem: {kind: patchify, patch_size: 4}}\n"
        + _PROBE, "model.grid", "reads pixels"),
    "images of many sizes": (
        "data: {kind: torchvision, name: DTD}\n" + _PIXELS + _PROBE, "data.image_size", "differ in size"),
    "patches that do not divide the image": (
        "data: {kind: digits}\ntokenizer: {kind: patch_kmeans, patch_size: 3}\n" + _PROBE,
        "tokenizer.patch_size", "must divide the images' side, 8"),
    "a stride that does not divide the image": (
        "data: {kind: image_folder, root: r, image_size: 20}\ntokenizer: {kind: vqvae, stride: 8}\n" + _PROBE,
        "tokenizer.stride", "must divide the images' side, 20"),
    "too many codes for the codec": (
        "data: {kind: digits}\ntokenizer: {kind: patch_kmeans, codebook_size: 511}\n"
        "storage: {codec: {kind: seit}}\n" + _PROBE, "tokenizer.codebook_size", "at most 510"),
    "too many codes of a quantiser for the codec": (
        "data: {kind: digits}\ntokenizer: {kind: vqvae, quantizer: {kind: ema, codebook_size: 1024}}\n"
        "storage: {codec: {kind: seit}}\n" + _PROBE, "tokenizer.quantizer.codebook_size", "at most 510"),
    "too many levels for any codec": (
        "data: {kind: digits}\ntokenizer: {kind: vqvae, quantizer: {kind: fsq, levels: [64, 64, 64]}}\n" + _PROBE,
        "tokenizer.quantizer.levels", "at most 65536"),
    "a model grid above the stored one": (
        _KMEANS + "model: {kind: vit, grid: 6}\n" + _PROBE, "model.grid", "the stored grid is 4 x 4"),
    "an odd grid under a stem of stride 2": (
        _KMEANS + "model: {kind: vit, grid: 3}\n" + _PROBE, "model.stem", "an even number"),
    "one token under a stem of stride 1": (
        _KMEANS + "model: {kind: vit, grid: 1, stem: {kind: conv2x2, stride: 1}}\n" + _PROBE,
        "model.stem", "at least 2"),
    "token patches that do not divide the grid": (
        _KMEANS + "model: {kind: vit, stem: {kind: patchify, patch_size: 3}}\n" + _PROBE,
        "model.stem", "must divide 4"),
    "pixel patches that do not divide the image": (
        "data: {kind: digits}\nmodel: {kind: vit, input: pixels, stem: {kind: patchify, patch_size: 16}}\n" + _PROBE,
        "model.stem", "must divide 8"),
    "mtm on pixels": (
        "data: {kind: digits}\n" + _PIXELS + "objective: {kind: mtm}\n", "objective.kind", "model.input: tokens"),
    "mtm under an overlapping stem": (
        _KMEANS + "objective: {kind: mtm}\n", "model.stem", "do not overlap"),
    "mtm under a stem of stride 1": (
        _KMEANS + "objective: {kind: mtm}\nmodel: {kind: vit, stem: {kind: conv2x2, stride: 1}}\n",
        "model.stem", "do not overlap"),
    "mtm on one patch": (
        _KMEANS + "objective: {kind: mtm}\nmodel: {kind: vit, grid: 2, stem: {kind: conv2x2}}\n",
        "objective.kind", "1 patch"),
    "as many visible patches as there are": (
        _KMEANS + "objective: {kind: mtm, mask: {visible: 4}}\nmodel: {kind: vit, stem: {kind: conv2x2}}\n",
        "objective.mask.visible", "only 4 patches"),
    "a task with a stage's name": (_KMEANS + "tasks: {pretrain: {kind: probe}}\n", "tasks.pretrain", "name of a stage"),
    "weights from an objective that is not there": (
        _KMEANS + "tasks: {a: {kind: probe, init: pretrain}}\n", "tasks.a.init", "no objective"),
    "corrupted released tokens": (
        _RELEASE + _PROBE + "evaluate: {n: {kind: corruption, name: gaussian_blur}}\n",
        "evaluate.n.kind", "changes pixels"),
    "a select split without images": (
        _KMEANS + _PROBE + "evaluate: {n: {kind: clean, split: select}}\n", "evaluate.n.split", "select_fraction"),
}  # fmt: skip

GOOD = {
    "tokens": _KMEANS + _PROBE,
    "released tokens": _RELEASE + _PROBE,
    "pixels": "data: {kind: digits}\n" + _PIXELS + _PROBE,
    "pixels beside a tokenizer": _KMEANS + _PIXELS + _PROBE,
    "images of many sizes brought to one": "data: {kind: torchvision, name: DTD, image_size: 64}\n" + _PIXELS + _PROBE,
    "as many codes as the codec holds": (
        "data: {kind: digits}\ntokenizer: {kind: patch_kmeans, codebook_size: 510}\n"
        "storage: {codec: {kind: seit}}\n" + _PROBE),
    "many codes packed": "data: {kind: digits}\ntokenizer: {kind: patch_kmeans, codebook_size: 4096}\n" + _PROBE,
    "a smaller model grid": _KMEANS + "model: {kind: vit, grid: 2}\n" + _PROBE,
    "an odd grid under stride 1": _KMEANS + "model: {kind: vit, grid: 3, stem: {kind: conv2x2, stride: 1}}\n" + _PROBE,
    "mtm": _KMEANS + _MTM,
    "mtm under patchify": (
        _KMEANS + "objective: {kind: mtm}\nmodel: {kind: vit, stem: {kind: patchify, patch_size: 2}}\n"),
    "mtm on released tokens": _RELEASE + _MTM,
    "a select split": (
        "data: {kind: digits, select_fraction: 0.1}\ntokenizer: {kind: patch_kmeans}\n" + _PROBE
        + "evaluate: {n: {kind: clean, split: select}}\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_an_impossible_combination_is_refused_at_the_field_to_change(tmp_path: Path, name: str) -> None:
    body, path, words = BAD[name]
    problems = _problems(tmp_path, body)
    assert [found for found, _ in problems] == [path], problems
    assert words in problems[0][1]


@pytest.mark.parametrize("name", GOOD)
def test_what_works_is_accepted(tmp_path: Path, name: str) -> None:
    assert _problems(tmp_path, GOOD[name]) == []


def test_a_combination_with_a_faulty_part_is_not_judged(tmp_path: Path) -> None:
    body = "data: {kind: digits}\ntokenizer: {kind: patch_kmeanz}\n" + _PROBE
    assert [path for path, _ in _problems(tmp_path, body)] == ["tokenizer.kind"]


def test_several_combinations_are_reported_together(tmp_path: Path) -> None:
    body = "data: {kind: digits}\ntokenizer: {kind: patch_kmeans, patch_size: 3, codebook_size: 600}\n"
    body += "storage: {codec: {kind: seit}}\ntasks: {adapt: {kind: probe, init: pretrain}}\n"
    paths = {path for path, _ in _problems(tmp_path, body)}
    assert paths == {"tokenizer.patch_size", "tokenizer.codebook_size", "tasks.adapt", "tasks.adapt.init"}
