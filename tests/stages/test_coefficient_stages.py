"""An experiment on cosine coefficients through all stages: stored, augmented, learned from, tested."""

from typing import Any

import numpy as np
import pytest
import torch

from tests.stages.running import SMALL, Bench, plan_of
from tokexp.data.base import Batch
from tokexp.data.digits import build as digits
from tokexp.plan.estimate import estimate_plan, shape_of
from tokexp.plan.graph import Plan
from tokexp.spec.checks import check
from tokexp.spec.data import DigitsData
from tokexp.spec.experiment import Experiment
from tokexp.stages.assembly import codebook_of, load_tokenizer
from tokexp.stages.codebook_pictures import CodebookSource, codebook_figures
from tokexp.stages.pictures import PictureSource, augmentation_figure
from tokexp.storage.store import TokenStore

CPU = torch.device("cpu")
DCT: dict[str, Any] = {"kind": "dct", "block": 2, "quality": 60}
PARTS: dict[str, Any] = {
    "tokenizer": DCT,
    "objective": {
        "kind": "data2vec", "top_blocks": 1, "blocks": {"smallest": 1}, "train": {"steps": 4, "batch_size": 32}
    },
    "augment": {
        "task": [
            {"kind": "token_eda", "neighbours": 2},
            {"one_of": [{"kind": "emb_noise", "relative": True}, {"kind": "color_adapt"}]},
            {"halves": [
                [{"kind": "token_rrc"}, {"kind": "token_cutmix"}],
                [{"kind": "token_adapt", "mixup": 0.8, "geometry": {"rrc": [0.5, 1.0]}}],
            ]},
        ],
        "adapt": {"width": 16, "heads": 2, "train": {"epochs": 2, "batch_size": 64}},
    },
}  # fmt: skip


def plan(**changes: Any) -> Plan:
    return plan_of(**{**PARTS, **changes})


def test_the_stored_levels_decode_to_what_the_tokenizer_decodes(bench: Bench) -> None:
    made = plan()
    result, folder = bench.run_to(made, "tokens")
    node, store = made.nodes[0], TokenStore.open(folder / "train.tokens")
    tokenizer = load_tokenizer(node.payload.tokenizer, node.payload.data, bench.root / node.key, CPU)  # type: ignore[attr-defined]
    images = digits(DigitsData(kind="digits")).read("train", range(40))
    table = torch.from_numpy(np.load(folder / "table.npy").astype(np.int64))
    book = codebook_of(store, CPU)
    values = book.lookup(book.unfold(table[tokenizer.encode(images)]))
    assert values.shape == (40, 4, 4, 4)
    assert torch.allclose(tokenizer.decode_values(values), tokenizer.decode(tokenizer.encode(images)), atol=1e-6)
    assert store.grid == (16, 4)
    assert result.metrics["bytes"] == (folder / "train.tokens").stat().st_size
    assert store.accounting.codebook == 2048 // 8  # which of the levels are in use
    assert bench.results[node.key].metrics["clipped"] == 0


def test_a_budget_holds_as_many_images_as_fit(bench: Bench) -> None:
    result, folder = bench.run_to(plan(storage={"budget": "8 kB", "codec": {"kind": "rans_context"}}), "tokens")
    size = (folder / "train.tokens").stat().st_size
    assert 0.9 * 8000 < result.metrics["bytes"] == size <= 8000


def test_all_stages_run_on_coefficients(bench: Bench) -> None:
    made = plan()
    adapted, _ = bench.run_to(made, "adapt")
    assert adapted.metrics["loss"] > 0
    assert 0 < adapted.metrics["recovery"] <= 1
    for name in ("finetune/clean", "finetune/noise", "probe/clean"):
        assert 0 <= bench.run_to(made, name)[0].metrics["top1"] <= 1


@pytest.mark.parametrize("kind", ["supervised", "mae"])
def test_other_objectives_learn_from_coefficients(bench: Bench, kind: str) -> None:
    train = {"steps": 3, "batch_size": 32, "warmup": 0.0}
    small = {"decoder": {"width": 16, "depth": 1, "heads": 2}} if kind == "mae" else {}
    augment = [{"kind": "token_rrc"}]
    result, _ = bench.run_to(plan(objective={"kind": kind, "train": train, **small}, augment=augment), "pretrain")
    assert np.isfinite(result.metrics["loss"])


def test_the_network_of_token_adapt_learns_to_give_coefficients_back(bench: Bench) -> None:
    still = {"hflip": 0.0, "affine": 0.0, "rrc": None}
    train = {"steps": 150, "batch_size": 64, "lr": 3e-3}
    adapt = {"width": 32, "heads": 2, "geometry": still, "train": train}
    made = plan(augment={**PARTS["augment"], "adapt": adapt})
    assert bench.run_to(made, "adapt")[0].metrics["recovery"] > bench.run_to(plan(), "adapt")[0].metrics["recovery"]


def test_pictures_show_images_coefficients_and_augmentations(bench: Bench) -> None:
    made = plan()
    folders = {kind: bench.run_to(made, kind)[1] for kind in ("tokenizer", "tokens", "adapt")}
    payload: Any = next(node.payload for node in made.nodes if node.kind == "downstream")
    node: Any = made.nodes[0].payload
    source = PictureSource(node.data, node.tokenizer, payload.policy, payload.adapt, folders)
    assert augmentation_figure(source).startswith(b"\x89PNG")
    from tokexp.spec.augment import EmbNoise

    figures = codebook_figures(
        CodebookSource(node.data, node.tokenizer, folders["tokens"], folders["tokenizer"], EmbNoise(kind="emb_noise"))
    )
    assert len(figures) == 1
    assert "of 2048 codes" in figures[0].said


def test_estimates_count_every_coefficient_and_no_codebook() -> None:
    made = plan(storage={"codec": {"kind": "packed"}})
    payloads = [node.payload for node in made.nodes]
    shape = shape_of(payloads, {"train": 100, "test": 10})
    assert (shape.grid, shape.width, shape.each, shape.vectors) == ((4, 4), 4, 4.0, 0)
    found = estimate_plan(made, {"train": 100, "test": 10})
    tokens = next(node.key for node in made.nodes if node.kind == "tokens")
    assert found[tokens].bytes == pytest.approx(110 * (64 * 11 / 8 + 2))


def test_a_batch_of_a_store_holds_one_map_per_coefficient(bench: Bench) -> None:
    from tokexp.engine.batches import TokenFeed

    _, folder = bench.run_to(plan(), "tokens")
    store = TokenStore.open(folder / "train.tokens")
    feed = TokenFeed(store.indices(), store.labels, store.num_classes, CPU, codebook_of(store, CPU).unfold)
    batch: Batch = feed.batch(torch.tensor([5, 0]))
    assert batch.indices is not None
    assert batch.indices.shape == (2, 4, 4, 4)
    assert np.array_equal(batch.indices[1].reshape(16, 4).numpy(), store.image(0))


def test_a_store_of_coefficients_is_data_for_other_experiments(bench: Bench) -> None:
    _, folder = bench.run_to(plan(), "tokens")
    files = {"train": str(folder / "train.tokens"), "test": str(folder / "test.tokens")}
    parts: dict[str, Any] = {
        "data": {"kind": "token_store", **files}, "tokenizer": None, "storage": {}, "augment": [{"kind": "token_rrc"}],
        "objective": None, "evaluate": {},
        "tasks": {"train": {"kind": "classify", "preset": "scratch", "train": {"steps": 3, "batch_size": 32}}},
    }  # fmt: skip
    again = plan(**parts)
    _, copied = bench.run_to(again, "tokens")
    first, second = (TokenStore.open(each / "train.tokens") for each in (folder, copied))
    assert second.facts["dct"] == first.facts["dct"]
    assert np.array_equal(second.indices(), first.indices())
    assert 0 <= bench.run_to(again, "train/clean")[0].metrics["top1"] <= 1
    shape = shape_of([node.payload for node in again.nodes], {"train": 10})
    assert (shape.grid, shape.width, shape.each, shape.codebook) == ((4, 4), 4, 4.0, False)
    (problem,) = check(Experiment.model_validate({**SMALL, **parts, "objective": {"kind": "mtm"}}))
    assert ".".join(map(str, problem.path)) == "objective.kind"
    assert "4 coefficients" in problem.message
