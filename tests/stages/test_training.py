"""The adapt, pretrain and downstream stages."""

import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.stages.running import SMALL, Bench, plan_of
from tokexp.data.base import Batch
from tokexp.engine.batches import PixelFeed, TokenFeed
from tokexp.engine.reporting import Stopped
from tokexp.errors import DamagedError, InputError
from tokexp.models.token_input import TokenInput
from tokexp.registry import implementation
from tokexp.stages.assembly import load_encoder
from tokexp.stages.downstream import Encoder
from tokexp.tokenizers.base import Codebook


def tasks(**train: Any) -> dict[str, Any]:
    recipe = {**SMALL["tasks"]["finetune"]["train"], **train}
    return {"finetune": {"kind": "classify", "train": recipe}}


def test_adapt_learns_to_give_tokens_back(bench: Bench) -> None:
    result, folder = bench.run_to(plan_of(), "adapt")
    assert result.metrics["recovery"] > 3 / 16
    assert load_file(folder / "adapt.safetensors")


def test_more_training_of_adapt_recovers_more(bench: Bench) -> None:
    gentle = {"hflip": 0.0, "rotate": 5, "translate": 0.1, "shear": 0.0, "rrc": [0.9, 1.0]}
    train = {"epochs": 40, "batch_size": 64, "lr": 3e-3}
    longer = {**SMALL["augment"], "adapt": {"width": 32, "heads": 2, "geometry": gentle, "train": train}}
    result, _ = bench.run_to(plan_of(augment=longer), "adapt")
    assert result.metrics["recovery"] > 0.9
    assert result.metrics["accuracy"] > 0.5


def test_pretraining_keeps_the_encoder_and_nothing_else(bench: Bench) -> None:
    _, folder = bench.run_to(plan_of(), "pretrain")
    names = load_file(folder / "weights.safetensors").keys()
    assert {name.split(".")[0] for name in names} <= {"backbone", "token_input"}
    assert any(name.startswith("backbone.blocks.1") for name in names)


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_both_forms_of_mtm_can_be_fine_tuned(bench: Bench, preset: str) -> None:
    objective = {**SMALL["objective"], "preset": preset}
    result, folder = bench.run_to(plan_of(objective=objective, tasks=tasks(steps=2)), "finetune")
    learned = any("table" in name for name in load_file(folder / "weights.safetensors"))
    assert learned == (preset == "released")
    assert result.metrics["loss"] > 0


def test_a_task_starts_from_the_pretrained_weights(bench: Bench) -> None:
    still = tasks(steps=1, lr=1e-12, weight_decay=0.0)
    _, folder = bench.run_to(plan_of(tasks=still), "finetune")
    _, before = bench.run_to(plan_of(tasks=still), "pretrain")
    tuned, encoder = (load_file(place / "weights.safetensors") for place in (folder, before))
    name = next(name for name in encoder if name.endswith("blocks.0.attn.qkv.weight"))
    found = next(value for key, value in tuned.items() if key.endswith(name))
    torch.testing.assert_close(found, encoder[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("positions", ["relative_shared", "relative_both"])
def test_a_table_that_blocks_shared_is_folded_into_their_own_when_fine_tuning_begins(
    bench: Bench, positions: str
) -> None:
    plan = plan_of(
        model={**SMALL["model"], "positions": positions}, augment=[], tasks=tasks(steps=1, lr=1e-12, weight_decay=0.0),
        objective={"kind": "mim", "train": {"steps": 3, "batch_size": 32, "lr": 0.1, "warmup": 0.0}},
    )  # fmt: skip
    before, after = (plan.node(plan.seeds[0][name]).payload.model for name in ("pretrain", "finetune"))
    assert (before.positions, after.positions) == (positions, "relative_blocks")
    assert plan.node(plan.seeds[0]["finetune/clean"]).payload.model == after
    codes, values, found = Codebook(torch.randn(16, 4), "euclidean"), torch.randn(2, 4, 4, 4), []
    for model, name in ((before, "pretrain"), (after, "finetune")):
        encoder = Encoder(implementation("models", "vit")(model, 4, (4, 4)), TokenInput(codes, "codebook"))
        load_encoder(encoder, bench.run_to(plan, name)[1] / "weights.safetensors")
        found.append(encoder.eval().backbone(values))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)
    assert bench.run_to(plan, "finetune/clean")[0].metrics["top1"] >= 0


def test_from_scratch_the_positions_are_those_that_the_spec_asks_for() -> None:
    model = {**SMALL["model"], "positions": "relative_both"}
    scratch = {"finetune": {**tasks()["finetune"], "init": "scratch"}}
    plan = plan_of(model=model, augment=[], objective={"kind": "mim"}, tasks=scratch)
    assert plan.node(plan.seeds[0]["finetune"]).payload.model.positions == "relative_both"


@pytest.mark.parametrize("final_norm", ["pretrained", "fresh"])
def test_the_norm_before_the_classifier_is_the_pretrainings_or_a_new_one(bench: Bench, final_norm: str) -> None:
    task = {**tasks(steps=1, lr=1e-12, weight_decay=0.0)["finetune"], "final_norm": final_norm}
    objective = {"kind": "mim", "train": {"steps": 3, "batch_size": 32, "lr": 0.1, "warmup": 0.0}}
    plan = plan_of(augment=[], objective=objective, tasks={"finetune": task})
    tuned, before = (
        load_file(bench.run_to(plan, name)[1] / "weights.safetensors") for name in ("finetune", "pretrain")
    )
    for name, fresh in (("norm.weight", torch.ones(32)), ("norm.bias", torch.zeros(32))):
        learned = before[f"backbone.{name}"]
        assert (learned - fresh).abs().max() > 1e-3
        found = next(value for key, value in tuned.items() if key.endswith(f"backbone.{name}"))
        torch.testing.assert_close(found, fresh if final_norm == "fresh" else learned, atol=1e-6, rtol=0)


def test_training_from_scratch_does_not(bench: Bench) -> None:
    scratch = {"finetune": {**tasks(steps=1, lr=1e-12)["finetune"], "init": "scratch"}}
    plan = plan_of(tasks=scratch)
    result, _ = bench.run_to(plan, "finetune")
    assert "pretrain" not in plan.node(plan.seeds[0]["finetune"]).inputs
    assert result.metrics["loss"] == pytest.approx(2.3, abs=0.05)


def test_supervised_pretraining_leads_to_a_probe(bench: Bench) -> None:
    objective = {"kind": "supervised", "train": {"steps": 10, "batch_size": 32, "warmup": 0.0}}
    result, _ = bench.run_to(plan_of(objective=objective), "probe")
    assert result.metrics["select_top1"] > 0.2


def test_the_average_of_the_weights_is_kept_and_tested(bench: Bench) -> None:
    plan = plan_of(tasks=tasks(ema=0.5))
    _, folder = bench.run_to(plan, "finetune")
    raw, average = (load_file(folder / f"{name}.safetensors") for name in ("weights", "average"))
    assert raw.keys() == average.keys()
    name = next(name for name in raw if name.endswith("head.weight"))
    assert not torch.equal(raw[name], average[name])
    assert "top1_average" in bench.run_to(plan, "finetune/clean")[0].metrics


def test_seeds_give_other_weights_and_the_same_seed_the_same(bench: Bench) -> None:
    plan = plan_of(seeds=[0, 1], tasks=tasks(steps=2))
    first, second = (bench.run_to(plan, "pretrain", seed)[1] for seed in (0, 1))
    one, two = (load_file(folder / "weights.safetensors") for folder in (first, second))
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_pixels_train_without_tokens(bench: Bench) -> None:
    model = {**SMALL["model"], "input": "pixels", "stem": {"kind": "patchify", "patch_size": 2}}
    augment = [{"kind": "pixel_rrc", "scale": [0.9, 1.0]}, {"kind": "pixel_flip", "prob": 0.0}]
    longer = tasks(steps=200, batch_size=64)
    plan = plan_of(model=model, tokenizer=None, storage={}, augment=augment, objective=None, tasks=longer)
    assert bench.run_to(plan, "finetune/clean")[0].metrics["top1"] > 0.5
    assert bench.run_to(plan, "finetune/noise")[0].metrics["top1"] > 0.12


def looking(every: int = 1, **train: Any) -> Any:
    task = {**tasks(**train)["finetune"], "validation": {"fraction": 0.25, "every": every}}
    return plan_of(tasks={"finetune": task})


def test_a_share_of_the_training_images_is_looked_at_and_never_trained_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: set[int] = set()
    looked_at: set[int] = set()

    class Seen(TokenFeed):
        def batch(self, positions: Tensor) -> Batch:
            (trained_on if torch.is_grad_enabled() else looked_at).update(positions.tolist())
            return super().batch(positions)

    plan = looking(steps=60, batch_size=64)
    bench.run_to(plan, "pretrain")
    monkeypatch.setattr("tokexp.stages.assembly.TokenFeed", Seen)
    result, _ = bench.run_to(plan, "finetune")
    kept = 377
    assert trained_on | looked_at == set(range(kept))
    assert not trained_on & looked_at
    assert len(looked_at) == pytest.approx(kept / 4, abs=5)
    assert 0 < result.metrics["val_top1"] < 1
    assert result.metrics["val_loss"] > 0
    assert "accuracy" in result.metrics


def test_how_often_one_looks_changes_no_weight(bench: Bench) -> None:
    found = [bench.run_to(looking(every=every), "finetune") for every in (1, 7)]
    one, two = (load_file(folder / "weights.safetensors") for _, folder in found)
    assert found[0][1] != found[1][1]
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert found[0][0].metrics == found[1][0].metrics


def test_a_stopped_task_goes_on_with_the_same_images_held_out(bench: Bench) -> None:
    straight, whole = bench.run_to(looking(batch_size=16), "finetune")
    before = load_file(whole / "weights.safetensors")
    plan = looking(batch_size=16)
    node = plan.node(plan.seeds[0]["finetune"])
    bench.results.pop(node.key)
    shutil.rmtree(bench.root / "work" / node.key)
    calls = iter(range(100))
    with pytest.raises(Stopped):
        bench.run(node, stop=lambda: next(calls) >= 6)
    assert bench.run(node).metrics == straight.metrics
    after = load_file(whole / "weights.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_share_that_leaves_nothing_to_train_on_is_refused(bench: Bench) -> None:
    task = {**tasks()["finetune"], "init": "scratch", "validation": {"fraction": 0.999}}
    with pytest.raises(InputError, match=r"validation\.fraction 0\.999"):
        bench.run_to(plan_of(tasks={"finetune": task}), "finetune")


def test_adapt_is_trained_on_as_many_images_as_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    class Counted(PixelFeed):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            counts.append(self.num_images)

    monkeypatch.setattr("tokexp.stages.adapt.PixelFeed", Counted)
    keys = set()
    for images in (None, 20):
        adapt = {**SMALL["augment"]["adapt"], "images": images, "train": {"steps": 2, "batch_size": 16}}
        plan = plan_of(augment={**SMALL["augment"], "adapt": adapt})
        bench.run_to(plan, "adapt")
        keys.add(plan.seeds[0]["adapt"])
    assert counts == [377, 20]
    assert len(keys) == 2


def test_weights_of_another_model_are_refused_by_name(bench: Bench) -> None:
    _, folder = bench.run_to(plan_of(), "pretrain")
    with pytest.raises(DamagedError, match=r"backbone\."):
        load_encoder(Encoder(torch.nn.Linear(2, 2), torch.nn.Identity()), folder / "weights.safetensors")
