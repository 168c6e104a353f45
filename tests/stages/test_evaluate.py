"""The evaluate stage and the pictures."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.stages.running import SMALL, Bench, plan_of
from tokexp.spec.augment import walk_steps
from tokexp.stages.assembly import Inputs
from tokexp.stages.downstream import build_task
from tokexp.stages.pictures import PictureSource, augmentation_figure
from tokexp.storage.store import TokenStore
from tokexp.tokenizers.base import Codebook

LONGER = {"finetune": {"kind": "classify", "train": {"steps": 150, "batch_size": 64, "lr": 2e-3}}}
PLAIN = {"task": [{"kind": "token_rrc", "scale": [0.5, 1.0]}]}


def test_accuracies_follow_from_the_saved_predictions(bench: Bench) -> None:
    plan = plan_of(tasks=LONGER, augment=PLAIN, objective=None)
    result, folder = bench.run_to(plan, "finetune/clean")
    saved = np.load(folder / "predictions.npz", allow_pickle=False)
    assert len(set(saved["ids"].tolist())) == 540 == result.facts["images"]
    assert result.metrics["top1"] == pytest.approx((saved["best"][:, 0] == saved["labels"]).mean())
    assert result.metrics["top5"] == pytest.approx((saved["best"] == saved["labels"][:, None]).any(1).mean())
    assert result.metrics["top1"] > 0.6
    assert ((saved["probabilities"] >= 0) & (saved["probabilities"] <= 1)).all()


def test_the_test_reads_the_middle_of_the_stored_tokens_and_draws_nothing(bench: Bench) -> None:
    fine = {"kind": "patch_kmeans", "patch_size": 1, "codebook_size": 16, "iterations": 5}
    task = {"kind": "classify", "drop_path": 0.5, "train": {"steps": 5, "batch_size": 64, "warmup": 0.0}}
    policy = [{"kind": "token_eda"}, {"kind": "token_rrc"}, {"kind": "emb_noise"}]
    plan = plan_of(
        tokenizer=fine, model={**SMALL["model"], "grid": 6}, tasks={"finetune": task}, objective=None,
        augment={"task": policy}, evaluate={},
    )  # fmt: skip
    _, folder = bench.run_to(plan, "finetune/clean")
    saved = np.load(folder / "predictions.npz", allow_pickle=False)
    payload = plan.node(plan.seeds[0]["finetune/clean"]).payload
    store = TokenStore.open(bench.run_to(plan, "tokens")[1] / "test.tokens")
    codes = torch.from_numpy(np.array(store.codes))
    inputs = Inputs(codes.shape[1], (8, 8), (6, 6), 10, Codebook(codes))
    model, _ = build_task(payload.model, "codebook", payload.task, inputs)  # type: ignore[attr-defined]
    model.load_state_dict(load_file(bench.run_to(plan, "finetune")[1] / "weights.safetensors"))
    middle = codes[store.indices()[:, 1:7, 1:7].astype(np.int64)].permute(0, 3, 1, 2)
    with torch.inference_mode():
        chances = model.eval().logits(middle).softmax(-1)
    assert saved["probabilities"] == pytest.approx(chances.topk(5).values.numpy(), abs=1e-6)
    assert (saved["best"][:, 0] == chances.argmax(-1).numpy()).mean() > 0.99


def test_noise_on_pixels_costs_accuracy(bench: Bench) -> None:
    plan = plan_of(tasks=LONGER, augment=PLAIN, objective=None)
    clean, noisy = (bench.run_to(plan, f"finetune/{name}")[0].metrics["top1"] for name in ("clean", "noise"))
    assert noisy < clean


def test_the_select_split_is_cut_from_training_images(bench: Bench) -> None:
    plan = plan_of(
        data={"kind": "digits", "select_fraction": 0.2}, objective=None, augment=PLAIN,
        tasks={"probe": {"kind": "probe", "lrs": [0.1], "epochs": 2}},
        evaluate={"select": {"kind": "clean", "split": "select"}},
    )  # fmt: skip
    result, folder = bench.run_to(plan, "probe/select")
    assert result.facts["split"] == "select"
    chosen = set(np.load(folder / "predictions.npz", allow_pickle=False)["ids"].tolist())
    tested = set(np.load(bench.run_to(plan, "probe/clean")[1] / "predictions.npz", allow_pickle=False)["ids"].tolist())
    assert len(chosen) == pytest.approx(0.2 * 1257, abs=6)
    assert not chosen & tested


def test_every_augmentation_has_its_column_in_the_figure(bench: Bench) -> None:
    plan = plan_of()
    folders = {name: bench.run_to(plan, name)[1] for name in ("tokenizer", "tokens", "adapt")}
    payload = plan.node(plan.seeds[0]["adapt"]).payload
    downstream = plan.node(plan.seeds[0]["finetune"]).payload
    source = PictureSource(
        payload.data, payload.tokenizer, walk_steps(downstream.policy), payload.adapt, folders  # type: ignore[attr-defined]
    )  # fmt: skip
    from tokexp.stages.pictures import _columns

    columns = dict(_columns(source))
    assert list(columns) == ["original", "tokens", "rrc", "adapt"]
    assert {tuple(images.shape) for images in columns.values()} == {(8, 1, 8, 8)}
    assert augmentation_figure(source).startswith(b"\x89PNG")


def test_the_small_spec_asks_for_every_kind_of_stage() -> None:
    kinds = {node.kind for node in plan_of().nodes}
    assert kinds == {"tokenizer", "tokens", "adapt", "pretrain", "downstream", "evaluate"}
    assert SMALL["objective"]["kind"] == "mtm"


def test_measures_of_the_stem_are_reported_of_pixels_and_of_tokens(bench: Bench) -> None:
    decoder = {"kind": "token_prop", "grid": 2, "size": 4, "rows": [8]}
    evaluate = {
        "alike": {"kind": "token_similarity"},
        "back": {"kind": "reconstruction", "decoder": decoder, "train": {"epochs": 1}},
    }
    few = {"finetune": {"kind": "classify", "train": {"steps": 2, "batch_size": 64, "lr": 2e-3}}}
    pixels = {**SMALL["model"], "input": "pixels", "stem": {"kind": "conv", "patch_size": 2}}
    on_pixels = {"tokenizer": None, "storage": {}, "model": pixels, "augment": [], "objective": None}
    for changes in ({"augment": PLAIN, "objective": None}, on_pixels):
        plan = plan_of(tasks=few, evaluate=evaluate, **changes)
        alike, _ = bench.run_to(plan, "finetune/alike")
        back, _ = bench.run_to(plan, "finetune/back")
        assert -1 <= alike.metrics["token_similarity"] <= 1
        assert 0 < back.metrics["reconstruction_error"] < 4
