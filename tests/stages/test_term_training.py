"""Stages that train with terms: what comes out, and what a stop and a resume change."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.stages.running import Bench, plan_of
from tokexp.engine.reporting import Stopped

MOTO = {"kind": "moto", "inner": {"kind": "patchify", "patch_size": 2}, "entities": 4}
TERM = {"kind": "token_prop", "grid": 4, "size": 8, "rows": [8, 8]}
TRAIN = {"steps": 4, "batch_size": 32, "lr": 3e-3, "warmup": 0.0}


def pixels(*terms: dict[str, Any], stem: dict[str, Any] | None = None, **train: Any) -> Any:
    """Return the plan of a small classifier of pixels, from scratch."""
    stem = stem or {"kind": "patchify", "patch_size": 2}
    model = {"kind": "vit", "width": 16, "depth": 1, "heads": 2, "input": "pixels", "stem": stem}
    task = {"kind": "classify", "preset": "scratch", "terms": list(terms), "train": {**TRAIN, **train}}
    return plan_of(
        tokenizer=None, storage={}, model=model, augment=[], objective=None, tasks={"train": task}, evaluate={}
    )


def weights(bench: Bench, plan: Any, file: str = "weights") -> dict[str, torch.Tensor]:
    _, folder = bench.run_to(plan, "train")
    return load_file(folder / f"{file}.safetensors")


def test_the_output_holds_the_model_and_no_decoder(bench: Bench) -> None:
    plain, decoded = weights(bench, pixels()), weights(bench, pixels(TERM))
    assert plain.keys() == decoded.keys()
    assert any(not torch.equal(plain[name], decoded[name]) for name in plain)


def test_parameters_are_counted_without_the_decoder_and_its_loss_is_reported(bench: Bench) -> None:
    plain, _ = bench.run_to(pixels(), "train")
    decoded, _ = bench.run_to(pixels(TERM), "train")
    assert decoded.facts == plain.facts
    assert {"own_loss", "token_prop"} <= decoded.metrics.keys()


def test_a_weight_of_zero_trains_the_model_that_no_term_trains(bench: Bench) -> None:
    plain, decoded = weights(bench, pixels()), weights(bench, pixels({**TERM, "weight": 0.0}))
    assert all(torch.equal(plain[name], decoded[name]) for name in plain)


def test_a_trained_model_is_tested_as_if_no_term_had_been(bench: Bench) -> None:
    result, _ = bench.run_to(pixels(TERM, stem=MOTO), "train/clean")
    assert 0 <= result.metrics["top1"] <= 1


def test_an_average_of_weights_holds_no_decoder(bench: Bench) -> None:
    plan = pixels(TERM, ema=0.5)
    assert weights(bench, plan).keys() == weights(bench, plan, "average").keys()


def test_a_frozen_stem_is_as_it_was_drawn_in_the_weights_and_in_their_average(bench: Bench) -> None:
    frozen = {"kind": "frozen", "patch_size": 2}
    short, long = (pixels(stem=frozen, ema=0.5, steps=steps, weight_decay=0.5) for steps in (1, 4))
    name = "objective.backbone.stem.weight"
    first = weights(bench, short)
    for found in (weights(bench, long), weights(bench, long, "average")):
        assert torch.equal(found[name], first[name])


def test_pretraining_with_a_term_leaves_what_tasks_load(bench: Bench) -> None:
    objective = {"kind": "mtm", "terms": [{**TERM, "grid": 2, "size": 4, "rows": [8]}], "train": {**TRAIN, "steps": 2}}
    task = {"finetune": {"kind": "classify", "train": {**TRAIN, "steps": 1}}}
    result, folder = bench.run_to(plan_of(objective=objective, tasks=task), "pretrain")
    assert {name.split(".")[0] for name in load_file(folder / "weights.safetensors")} <= {"backbone", "token_input"}
    assert "token_prop" in result.metrics
    bench.run_to(plan_of(objective=objective, tasks=task), "finetune")


@pytest.mark.parametrize("stem", [MOTO, {"kind": "conv", "patch_size": 2}], ids=["moto", "conv"])
def test_a_stopped_training_goes_on_bit_for_bit(bench: Bench, tmp_path: Path, stem: dict[str, Any]) -> None:
    plan = pixels(TERM, stem=stem)
    expected = weights(bench, plan)
    node = next(node for node in plan.nodes if node.kind == "downstream")
    other, asked = Bench(tmp_path / "stopped"), list[int]()

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 2

    with pytest.raises(Stopped):
        other.run(node, stop=stop)
    other.run(node)
    found = load_file(other.root / node.key / "weights.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
