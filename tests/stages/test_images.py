"""The images stage, and training on what it stored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.pictures import split_tree
from tests.stages.running import Bench, plan_of
from tokexp.data.base import Batch
from tokexp.engine.reporting import Silent, Stopped
from tokexp.objectives.base import ObjectiveContext
from tokexp.plan.graph import Plan
from tokexp.registry import implementation
from tokexp.spec.objectives import Supervised
from tokexp.stages.assembly import build_backbone, build_token_input, feed_of, image_source, model_inputs
from tokexp.storage.image_store import ImageStore

PIXELS = {"kind": "vit", "width": 32, "depth": 2, "heads": 2, "input": "pixels"}
MODEL = {**PIXELS, "stem": {"kind": "patchify", "patch_size": 2}}
TASK = {"kind": "classify", "label_smoothing": 0.0, "train": {"steps": 8, "batch_size": 32, "warmup": 0.0}}


def plan_with(storage: dict[str, Any], **changes: Any) -> Plan:
    given = {"storage": storage, "model": MODEL, "augment": {}, "objective": None, "tokenizer": None, "evaluate": {}}
    return plan_of(**{**given, "tasks": {"train": TASK}, **changes})


def of_folder(root: Path, storage: dict[str, Any]) -> Plan:
    """Images of 10 x 8 pixels that models read as 8 x 8."""
    data = {"kind": "image_folder", "root": str(split_tree(root)), "image_size": 8}
    return plan_with(storage, data=data)


def test_files_are_stored_as_they_are_and_read_as_they_were(bench: Bench, tmp_path: Path) -> None:
    plan = of_folder(tmp_path, {"reduce": {"kind": "fraction", "share": 0.5}})
    result, output = bench.run_to(plan, "images")
    store, kept = ImageStore.open(output / "train.images"), json.loads((output / "kept.json").read_text())["train"]
    files = sorted((tmp_path / "train").rglob("*.png"))
    assert [store.item(place) for place in range(6)] == [files[position].read_bytes() for position in kept]
    node = plan.node(plan.seeds[0]["train"])
    data = node.payload.data  # type: ignore[attr-defined]
    feed = feed_of(bench.context(node), node.payload.model, data, "train")  # type: ignore[attr-defined]
    whole = image_source(data)
    assert torch.equal(feed.batch(torch.arange(6)).values, whole.read("train", kept))
    assert feed.labels.tolist() == whole.labels("train")[kept].tolist()
    assert result.metrics["bytes"] == (output / "train.images").stat().st_size
    assert result.metrics["bytes_per_image"] == (output / "train.images").stat().st_size / 6


def test_reduced_images_come_back_at_the_datas_size(bench: Bench, tmp_path: Path) -> None:
    plan = of_folder(tmp_path, {"reduce": {"kind": "resize", "side": 4}})
    bench.run_to(plan, "images")
    node = plan.node(plan.seeds[0]["train"])
    feed = feed_of(bench.context(node), node.payload.model, node.payload.data, "train")  # type: ignore[attr-defined]
    first = sorted((tmp_path / "train").rglob("*.png"))[0]
    small = Image.open(first).resize((5, 4), Image.Resampling.BICUBIC)
    expected = np.asarray(small.resize((8, 8), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    values = feed.batch(torch.tensor([0])).values
    assert values is not None
    assert np.array_equal(np.rint(255 * values[0].numpy()), expected)


def test_tests_read_the_images_as_they_are(bench: Bench, tmp_path: Path) -> None:
    plan = of_folder(tmp_path, {"reduce": {"kind": "jpeg", "quality": 1}})
    bench.run_to(plan, "images")
    node = plan.node(plan.seeds[0]["train"])
    data = node.payload.data  # type: ignore[attr-defined]
    for split, same in (("test", True), ("train", False)):
        feed = feed_of(bench.context(node), node.payload.model, data, split)  # type: ignore[attr-defined]
        whole = image_source(data).read(split, list(range(feed.num_images)))
        assert torch.equal(feed.batch(torch.arange(feed.num_images)).values, whole) is same


@pytest.mark.parametrize(
    "storage",
    [
        {"reduce": {"kind": "jpeg", "quality": 20}, "fraction": 0.05},
        {"reduce": {"kind": "resize", "side": 4}, "fraction": 0.05},
        {"reduce": {"kind": "fraction", "select": "uniform"}, "budget": "5 kB"},
    ],
)
def test_equal_stages_write_equal_bytes(tmp_path: Path, storage: dict[str, Any]) -> None:
    plan = plan_with(storage)
    files = [Bench(tmp_path / name).run_to(plan, "images")[1] / "train.images" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_policy_has_its_task_trained_and_tested(bench: Bench) -> None:
    plan = plan_with({"reduce": {"kind": "jpeg", "quality": 20}, "fraction": 0.1})
    assert set(plan.seeds[0]) == {"images", "train", "train/clean"}
    assert plan.node(plan.seeds[0]["train"]).inputs == {"images": plan.seeds[0]["images"]}
    result, _ = bench.run_to(plan, "train/clean")
    assert 0 <= result.metrics["top1"] <= 1


def test_a_pretraining_reads_the_stored_images_too(bench: Bench) -> None:
    mim = {"kind": "mim", "targets": "encoded", "train": {"steps": 2, "batch_size": 8, "warmup": 0.0}}
    tokenizer = {"kind": "patch_kmeans", "patch_size": 2, "codebook_size": 8, "iterations": 2}
    plan = plan_with({"reduce": {"kind": "jpeg", "quality": 20}, "fraction": 0.05}, objective=mim, tokenizer=tokenizer)
    assert plan.node(plan.seeds[0]["pretrain"]).inputs["images"] == plan.seeds[0]["images"]
    assert bench.run_to(plan, "pretrain")[0].metrics["loss"] > 0


def test_a_pixel_experiment_without_a_policy_has_no_such_stage_and_other_keys() -> None:
    without, within = plan_with({}), plan_with({"reduce": {"kind": "fraction", "share": 1.0}})
    assert set(without.seeds[0]) == {"train", "train/clean"}
    assert without.node(without.seeds[0]["train"]).inputs == {}
    assert without.node(without.seeds[0]["train"]).payload == within.node(within.seeds[0]["train"]).payload
    assert without.seeds[0]["train"] != within.seeds[0]["train"]


def test_the_codec_of_tokens_is_no_part_of_stored_images() -> None:
    one, other = (
        plan_with({"reduce": {"kind": "jpeg", "quality": 9}, "codec": {"kind": kind}}) for kind in ("packed", "seit")
    )
    assert one.seeds[0] == other.seeds[0]


def test_the_content_of_a_policys_file_enters_the_key(tmp_path: Path) -> None:
    file, keys = tmp_path / "scores.csv", []
    for text in ("a,1\n", "a,2\n"):
        file.write_text(text)
        reduce = {"kind": "fraction", "share": 0.1, "select": "c_score", "file": str(file)}
        keys.append(plan_with({"reduce": reduce}).seeds[0]["images"])
    assert keys[0] != keys[1]


def test_storing_stops_when_asked_to(tmp_path: Path) -> None:
    plan = plan_with({"reduce": {"kind": "jpeg"}, "budget": "1 MB"})
    with pytest.raises(Stopped):
        Bench(tmp_path).run(plan.node(plan.seeds[0]["images"]), stop=lambda: True, report=Silent())


def distilled(folder: Path, count: int = 24) -> tuple[Path, np.ndarray]:
    generator = np.random.default_rng(0)
    soft = generator.dirichlet(np.ones(10), count).astype(np.float32)
    images = generator.random((count, 1, 8, 8)).astype(np.float32)
    np.savez(folder / "set.npz", images=images, soft_labels=soft)
    return folder / "set.npz", soft


def test_soft_labels_are_what_the_loss_compares_with(bench: Bench, tmp_path: Path) -> None:
    file, soft = distilled(tmp_path)
    plan = plan_with({"reduce": {"kind": "distilled", "file": str(file), "soft_labels": "float32"}})
    bench.run_to(plan, "images")
    node = plan.node(plan.seeds[0]["train"])
    context, payload = bench.context(node), node.payload
    batch: Batch = feed_of(context, payload.model, payload.data, "train").batch(torch.tensor([5, 0, 17]))  # type: ignore[attr-defined]
    inputs = model_inputs(context, payload.model, payload.data)  # type: ignore[attr-defined]
    torch.manual_seed(1)
    backbone = build_backbone(payload.model, inputs, 0.0)  # type: ignore[attr-defined]
    own = ObjectiveContext(backbone, build_token_input(inputs, "codebook"), inputs.num_classes)
    objective = implementation("objectives", "supervised")(Supervised(kind="supervised", label_smoothing=0.0), own)
    objective.eval()
    loss = objective(batch, torch.Generator()).loss
    assert batch.values is not None
    logits = objective.logits(batch.values).double()
    # Cross-entropy of the stored shares q: the mean over images of -sum_c q_c log p_c, p the softmax of the scores.
    chances = logits.exp() / logits.exp().sum(1, keepdim=True)
    expected = -(torch.from_numpy(soft[[5, 0, 17]]).double() * chances.log()).sum(1).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert batch.labels.tolist() == soft[[5, 0, 17]].argmax(1).tolist()


def test_a_distilled_set_is_trained_on_and_counts_its_soft_labels(bench: Bench, tmp_path: Path) -> None:
    file, _ = distilled(tmp_path)
    plan = plan_with({"reduce": {"kind": "distilled", "file": str(file), "pixels": "float16"}})
    result, output = bench.run_to(plan, "images")
    parts = result.facts["accounting"]
    assert parts["soft_labels"] == 24 * 10 * 2
    assert parts["pixels"] == 24 * 64 * 2
    assert result.metrics["bytes"] == (output / "train.images").stat().st_size
    assert not (output / "kept.json").exists()
    assert bench.run_to(plan, "train/clean")[0].metrics["top1"] >= 0
