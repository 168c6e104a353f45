"""What the presets hold, against the published recipes and the differences between papers and released code."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from tokexp.spec.augment import Geometry, Step, TokenAdapt
from tokexp.spec.base import Spec
from tokexp.spec.data import ImageFolderData
from tokexp.spec.objectives import Mtm, Supervised
from tokexp.spec.tasks import Classify

STEP: TypeAdapter[Any] = TypeAdapter(Step)


def value(spec: Spec, path: str) -> Any:
    found: Any = spec
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize(
    ("kind", "field", "paper", "released"),
    [
        ("emb_noise", "prob", 0.5, 0.5),
        ("emb_noise", "subset", "bernoulli", "exact_count"),
        ("color_adapt", "prob", 0.25, 0.5),
        ("color_adapt", "subset", "bernoulli", "exact_count"),
        ("color_adapt", "partner", "random", "reversed"),
        ("color_adapt", "eps", 1e-5, 0.0),
        ("token_adapt", "quantize", "nearest", "argmax"),
        ("token_adapt", "geometry.scope", "per_sample", "per_batch"),
        ("token_adapt", "geometry.shear_sign", "symmetric", "positive"),
        ("token_adapt", "geometry.resample", "once", "each"),
    ],
)
def test_steps_differ_where_the_papers_and_the_releases_do(kind: str, field: str, paper: Any, released: Any) -> None:
    found = [value(STEP.validate_python({"kind": kind, "preset": name}), field) for name in ("paper", "released")]
    assert found == [paper, released]
    assert value(STEP.validate_python({"kind": kind}), field) == paper


@pytest.mark.parametrize(
    ("field", "paper", "released"),
    [
        ("mask.scheme", "mae", "mage"),
        ("mask.mean", 0.45, 0.45),
        ("mask.std", 0.25, 0.25),
        ("mask.low", 0.4, 0.4),
        ("mask.high", 1.0, 1.0),
        ("mask.drop", 0.4, 0.4),
        ("decoder.fill", "learned", "cls"),
        ("decoder.depth", 4, 4),
        ("decoder.dropout", 0.1, 0.1),
        ("label_smoothing", 0.1, 0.0),
        ("input", "codebook", "learned"),
        ("train.clip_grad", 3.0, None),
        ("train.epochs", 400, 400),
        ("train.batch_size", 4096, 4096),
        ("train.weight_decay", 0.05, 0.05),
        ("train.optimizer.betas", (0.9, 0.95), (0.9, 0.95)),
        ("train.schedule.min_lr", 0.0, 0.0),
    ],
)
def test_masked_token_modelling_in_both_readings(field: str, paper: Any, released: Any) -> None:
    readings = [Mtm.model_validate({"kind": "mtm", "preset": name}) for name in ("paper", "released")]
    assert [value(spec, field) for spec in readings] == [paper, released]
    images = 1_281_167
    assert [spec.train.warmup_steps(images) for spec in readings] == [40 * (images // 4096)] * 2


@pytest.mark.parametrize(
    ("field", "paper", "released"),
    [
        ("train.lr_scale", "absolute", "sqrt_8"),
        ("train.layer_decay", 0.65, 0.65),
        ("train.schedule.min_lr", 0.0, 1e-6),
        ("train.weight_decay", 0.1, 0.1),
        ("train.optimizer.betas", (0.9, 0.999), (0.9, 0.999)),
        ("train.clip_grad", None, None),
        ("table_layer", "first", "last"),
        ("drop_path", 0.1, 0.1),
        ("label_smoothing", 0.1, 0.1),
        ("head_std", 2e-5, 2e-5),
    ],
)
def test_fine_tuning_in_both_readings(field: str, paper: Any, released: Any) -> None:
    readings = [Classify.model_validate({"kind": "classify", "preset": name}) for name in ("paper", "released")]
    assert [value(spec, field) for spec in readings] == [paper, released]
    assert [(spec.train.epochs, spec.train.batch_size) for spec in readings] == [(100, 1024)] * 2


def test_seits_training_is_the_same_as_an_objective_and_as_a_task() -> None:
    for objective, task in (("paper", "scratch"), ("released", "scratch_released")):
        train = Supervised.model_validate({"kind": "supervised", "preset": objective}).train
        assert train == Classify.model_validate({"kind": "classify", "preset": task}).train
        assert (train.epochs, train.batch_size, train.weight_decay, train.layer_decay) == (300, 1024, 0.1, None)
        assert train.warmup_steps(102_400) == 500
    assert (train.schedule.unit, train.schedule.warmup_lr, train.schedule.min_lr) == ("epoch_lagged", 1e-6, 1e-5)


def test_what_is_written_wins_over_a_preset_and_leaves_its_other_values() -> None:
    step = TokenAdapt.model_validate(
        {"kind": "token_adapt", "preset": "released", "geometry": {"rrc": [0.2, 1.0], "scope": "per_sample"}}
    )
    expected = Geometry(rrc=(0.2, 1.0), scope="per_sample", shear_sign="positive", resample="each")
    assert step.geometry == expected


def test_geometry_and_resizing_start_at_the_published_values() -> None:
    geometry = Geometry()
    assert (geometry.hflip, geometry.affine, geometry.member) == (0.5, 0.5, 0.5)
    assert (geometry.rotate, geometry.translate, geometry.shear, geometry.rrc) == (30.0, 0.2, 15.0, (0.08, 1.0))
    assert ImageFolderData(kind="image_folder", root="x", image_size=256).resize == "squash"
