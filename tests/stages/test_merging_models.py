"""Stages with models whose patches are merged: pixels and stored tokens, all that tasks and tests ask, a resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.stages.running import Bench, plan_of
from tokexp.engine.reporting import Stopped
from tokexp.spec.token_prop import TokenProp
from tokexp.stages.model_size import model_size

MOTO: dict[str, Any] = {"kind": "moto", "entities": 4}
MODELS: dict[str, dict[str, Any]] = {
    "swin": {
        "kind": "swin", "width": 8, "depths": [1, 1], "heads": [1, 2], "window": 2,
        "stem": {**MOTO, "inner": {"kind": "patchify", "patch_size": 2}},
    },
    "pvt_v2": {
        "kind": "pvt_v2", "widths": [8, 16], "depths": [1, 1], "heads": [1, 2], "reductions": [1, 1],
        "mlp_ratios": [2.0, 2.0], "stem": {**MOTO, "placement": "token", "inner": {"kind": "overlap", "patch_size": 2}},
    },
}  # fmt: skip
TERM = {"kind": "token_prop", "grid": 4, "size": 8, "rows": [8]}
TRAIN = {"steps": 4, "batch_size": 32, "lr": 3e-3, "warmup": 0.0, "layer_decay": 0.7}
EVALUATE = {
    "similarity": {"kind": "token_similarity"},
    "reconstruction": {"kind": "reconstruction", "decoder": TERM, "train": {"steps": 2, "batch_size": 32}},
}


def plan(model: str, reads: str) -> Any:
    """Return an experiment of supervised pre-training, a fine-tuning with TokenProp and a probe."""
    stored: dict[str, Any] = {} if reads == "tokens" else {"tokenizer": None, "storage": {}}
    return plan_of(
        **stored, model={"input": reads, **MODELS[model]}, augment=[], evaluate=EVALUATE,
        objective={"kind": "supervised", "terms": [TERM], "train": TRAIN},
        tasks={
            "finetune": {"kind": "classify", "terms": [TERM], "train": TRAIN},
            "probe": {"kind": "probe", "lrs": [0.1], "epochs": 2},
        },
    )  # fmt: skip


@pytest.mark.parametrize("reads", ["pixels", "tokens"])
@pytest.mark.parametrize("model", MODELS)
def test_every_stage_of_an_experiment_works(bench: Bench, model: str, reads: str) -> None:
    made = plan(model, reads)
    for name in ("finetune/clean", "finetune/similarity", "finetune/reconstruction", "probe/clean"):
        result, _ = bench.run_to(made, name)
        assert result.metrics
    pretrained, folder = bench.run_to(made, "pretrain")
    assert {"own_loss", "token_prop"} <= pretrained.metrics.keys()
    saved = load_file(folder / "weights.safetensors")
    assert {name.split(".")[0] for name in saved} <= {"backbone", "token_input"}


@pytest.mark.parametrize("model", MODELS)
def test_a_stopped_training_goes_on_bit_for_bit(bench: Bench, tmp_path: Path, model: str) -> None:
    made = plan(model, "pixels")
    _, folder = bench.run_to(made, "pretrain")
    node = made.node(made.seeds[0]["pretrain"])
    other, asked = Bench(tmp_path / "stopped"), list[int]()

    def stop() -> bool:
        asked.append(1)
        return len(asked) == 2

    with pytest.raises(Stopped):
        other.run(node, stop=stop)
    other.run(node)
    expected = load_file(folder / "weights.safetensors")
    found = load_file(other.root / node.key / "weights.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("model", MODELS)
def test_the_plan_names_the_model_and_estimates_its_work(model: str) -> None:
    made = plan(model, "pixels")
    (node,) = (node for node in made.nodes if node.kind == "pretrain")
    assert f"{model}-8x1+1" in node.label


@pytest.mark.parametrize("model", MODELS)
def test_the_decoder_stands_beside_the_model_in_its_size(model: str) -> None:
    made = plan(model, "pixels")
    spec = made.node(made.seeds[0]["pretrain"]).payload.model
    *parts, decoder = model_size(spec, 1, (8, 8), 10, [TokenProp.model_validate({**TERM, "rows": (8,)})])
    assert decoder.name == "token_prop, in training alone"
    # Rows 8 -> 8 with a skip, then 2 -> 1 after the shuffle, with one of 1 x 1.
    assert decoder.parameters == (8 * 9 + 1) * 8 + 2 * 9 + 1 + 2
    assert parts[-1].parameters == sum(part.parameters for part in parts[:-1])
