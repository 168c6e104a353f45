"""Models whose patches are merged on the way: what does not go with them is said once, where it is written."""

from pathlib import Path
from typing import Any

import pytest

from tokexp.errors import SpecError
from tokexp.spec.checks import check
from tokexp.spec.experiment import Experiment
from tokexp.spec.reading import read_experiment

SWIN: dict[str, Any] = {
    "kind": "swin", "width": 16, "depths": [1, 1], "heads": [2, 2], "window": 2,
    "stem": {"kind": "patchify", "patch_size": 2},
}  # fmt: skip
PVT: dict[str, Any] = {
    "kind": "pvt_v2", "widths": [16, 32], "depths": [1, 1], "heads": [1, 2], "reductions": [2, 1],
    "mlp_ratios": [4.0, 4.0], "stem": {"kind": "overlap", "patch_size": 2},
}  # fmt: skip
MODELS = pytest.mark.parametrize("model", [SWIN, PVT], ids=["swin", "pvt_v2"])
MOMENTUM = {"kind": "momentum"}
BYOL: dict[str, Any] = {"kind": "byol", "views": [{"kind": "color_jitter"}]}


def found(model: dict[str, Any], **changes: Any) -> list[str]:
    """Return what is wrong with an experiment on digits, pixels unless the model says tokens."""
    spec = {
        "schema": 1, "data": {"kind": "digits"}, "tokenizer": {"kind": "patch_kmeans", "patch_size": 1},
        "model": {"input": "pixels", **model}, "tasks": {"train": {"kind": "classify"}},
    }  # fmt: skip
    given = Experiment.model_validate({**spec, **changes})
    return [f"{'.'.join(map(str, each.path))}: {each.message}" for each in check(given)]


@MODELS
@pytest.mark.parametrize("reads", ["pixels", "tokens"])
def test_labels_views_and_the_terms_of_stems_work(model: dict[str, Any], reads: str) -> None:
    terms = [{"kind": "token_prop", "grid": 4, "size": 8}]
    views = [{"kind": "color_jitter" if reads == "pixels" else "emb_noise"}]
    probe = {"probe": {"kind": "probe"}}
    for objective in ({"kind": "supervised", "terms": terms}, {**BYOL, "views": views, "terms": terms}):
        assert found({**model, "input": reads}, objective=objective, tasks=probe) == []


@MODELS
@pytest.mark.parametrize("kind", ["mim", "beit", "pim", "mapet", "cae", "mae", "mtm", "dtm"])
def test_objectives_on_single_patches_are_refused_with_one_message(model: dict[str, Any], kind: str) -> None:
    objective = {"kind": kind, **({"target": MOMENTUM} if kind == "dtm" else {})}
    (message,) = found({**model, "input": "tokens" if kind == "mtm" else "pixels"}, objective=objective)
    hides = f"objective.kind: {kind} hides patches of the model's input"
    assert message == f"{hides}; model.kind: vit is needed, not {model['kind']}"


@MODELS
def test_morphing_beside_other_losses_is_refused_where_it_is_written(model: dict[str, Any]) -> None:
    (message,) = found(model, objective={**BYOL, "dtm": {}})
    assert message.startswith("objective.dtm: dtm compares single patches; model.kind: vit is needed")
    term = {"kind": "dtm", "target": MOMENTUM}
    (message,) = found(model, objective={"kind": "supervised", "terms": [term]})
    assert message.startswith("objective.terms.0: dtm compares single patches; model.kind: vit is needed")


@MODELS
def test_the_class_token_of_a_probe_is_refused(model: dict[str, Any]) -> None:
    (message,) = found(model, tasks={"probe": {"kind": "probe", "features": "cls", "init": "scratch"}})
    assert message == f"tasks.probe.features: cls given; {model['kind']} has no class token, write features: mean"


@MODELS
def test_the_test_of_single_patches_is_refused(model: dict[str, Any]) -> None:
    (message,) = found(model, evaluate={"patches": {"kind": "spatial_inconsistency"}})
    assert message.startswith("evaluate.patches.kind: spatial_inconsistency looks at the last block's patches; ")


def test_keys_that_more_patches_share_than_there_are_are_refused() -> None:
    (message,) = found({**PVT, "reductions": [8, 1]})
    assert message == "model.reductions: 8 given for stage 1, which has 4 x 4 patches"
    (message,) = found({**PVT, "reductions": [2, 4], "input": "tokens", "grid": 4})
    assert message == "model.reductions: 4 given for stage 2, which has 1 x 1 patches"


def test_a_side_that_the_stem_cannot_cut_is_all_that_is_said() -> None:
    (message,) = found({**PVT, "stem": {"kind": "overlap", "patch_size": 3}, "reductions": [8, 1]})
    assert message.startswith("model.stem: overlap cannot cut 8 x 8 pixels into patches")


def test_the_message_has_the_place_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "schema: 1\n"
        "data: {kind: digits}\n"
        "tokenizer: {kind: patch_kmeans, patch_size: 2}\n"
        "model: {kind: swin, input: pixels, depths: [1], heads: [1], stem: {kind: patchify, patch_size: 2}}\n"
        "objective: {kind: mapet}\n"
    )
    with pytest.raises(SpecError) as error:
        read_experiment(file)
    (problem,) = error.value.problems
    assert str(problem).startswith(f"{file}:5:19: objective.kind: mapet hides patches of the model's input; ")
