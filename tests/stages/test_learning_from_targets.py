"""Pre-training from a target: through the stages, and resumed bit by bit."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.stages.running import SMALL, Bench, plan_of
from tokexp.data.base import Batch
from tokexp.engine.reporting import Stopped
from tokexp.stages.training_source import TwoViews

TRAIN = {"steps": 6, "batch_size": 16, "warmup": 0.0}
PIXELS = {**SMALL["model"], "width": 16, "input": "pixels", "stem": {"kind": "patchify", "patch_size": 2}}
TOKENS = {**SMALL["model"], "width": 16, "stem": {"kind": "conv2x2"}}
TEACHER = {"kind": "teacher", "from": {"stage": "teacher"}}
MOMENTUM = {"kind": "momentum", "decay": 0.5}
TASKS = {"teacher": {"kind": "classify", "init": "scratch", "train": {**TRAIN, "steps": 2}}}
MORPHED = {"target": MOMENTUM, "schedule": {"iterations": [1, 3]}}
DTM = {"kind": "dtm", "blocks": {"smallest": 2}, **MORPHED}
DECODER = {"width": 16, "depth": 1, "heads": 2}
BYOL = {"kind": "byol", "hidden": 16, "features": 8, "dtm": {"schedule": {"iterations": [1, 3]}}}
BEIT = {"kind": "beit", "blocks": {"smallest": 2}, "terms": [{"kind": "dtm", **MORPHED}]}
TIMM = {"kind": "timm", "model": "vit_tiny_patch16_224", "random": True, "patch_size": 2}


def plan(objective: dict[str, Any], model: dict[str, Any]) -> Any:
    views = [{"kind": "color_jitter" if model is PIXELS else "emb_noise"}]
    given = {**objective, "train": TRAIN, **({"views": views} if objective["kind"] == "byol" else {})}
    tokenizer = {**SMALL["tokenizer"], "patch_size": 2 if model is PIXELS else 1}
    return plan_of(model=model, tokenizer=tokenizer, storage={}, augment=[], objective=given, tasks=TASKS)


@pytest.mark.parametrize("model", [PIXELS, TOKENS], ids=["pixels", "tokens"])
@pytest.mark.parametrize(
    "objective",
    [{**DTM, "target": TEACHER}, {"kind": "mae", "decoder": DECODER, "dtm": {**MORPHED, "target": TEACHER}}, BEIT],
    ids=["dtm", "mae", "beit"],
)
def test_it_learns_from_pixels_and_from_stored_tokens(
    bench: Bench, objective: dict[str, Any], model: dict[str, Any]
) -> None:
    found = plan(objective, model)
    assert 0 < bench.run_to(found, "pretrain")[0].metrics["loss"] < 10


def test_a_tower_of_timm_teaches(bench: Bench) -> None:
    assert 0 < bench.run_to(plan({**DTM, "target": TIMM}, PIXELS), "pretrain")[0].metrics["loss"] < 2


@pytest.mark.parametrize("objective", [DTM, BYOL, BEIT], ids=["dtm", "byol", "beit"])
def test_a_stopped_run_goes_on_bit_for_bit_with_its_moving_average(bench: Bench, objective: dict[str, Any]) -> None:
    found = plan(objective, PIXELS)
    whole, folder = bench.run_to(found, "pretrain")
    node, again = found.node(found.seeds[0]["pretrain"]), Bench(bench.root / "again")
    for key in node.inputs.values():
        (again.root / key).parent.mkdir(parents=True, exist_ok=True)
        (again.root / key).symlink_to(bench.root / key)
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        again.run(node, stop=lambda: next(asked))
    resumed = again.run(node)
    assert {**resumed.metrics} == {**whole.metrics}
    first, second = (load_file(place / "weights.safetensors") for place in (folder, again.root / node.key))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_teacher_is_not_saved_and_its_weights_are_those_of_its_stage(bench: Bench) -> None:
    found = plan({**DTM, "target": TEACHER}, PIXELS)
    _, folder = bench.run_to(found, "pretrain")
    assert {name.split(".")[0] for name in load_file(folder / "weights.safetensors")} == {"backbone"}


def test_two_views_share_one_policy_and_draw_another_each() -> None:
    shifted: list[float] = []

    def policy(batch: Batch, generator: torch.Generator) -> Batch:
        assert batch.values is not None
        return batch.with_values(batch.values + torch.rand((), generator=generator))

    def view(batch: Batch, generator: torch.Generator) -> Batch:
        assert batch.values is not None
        shifted.append(float(batch.values.flatten()[0]))
        return policy(batch, generator)

    batch = Batch(torch.zeros(2, dtype=torch.int64), 3, values=torch.zeros(2, 1, 2, 2))
    found = TwoViews(policy, view)(batch, torch.Generator().manual_seed(0))
    assert shifted[0] == shifted[1] > 0
    assert found.other_view is not None
    assert not torch.equal(found.values, found.other_view)  # type: ignore[arg-type]
