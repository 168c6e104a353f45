"""The tokenizer and tokens stages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.stages.running import Bench, plan_of
from tokexp.data.digits import build as digits
from tokexp.engine.reporting import Stopped
from tokexp.errors import InputError
from tokexp.registry import implementation
from tokexp.spec.data import DigitsData
from tokexp.stages.assembly import load_tokenizer
from tokexp.storage.interchange.merging import merge_stores
from tokexp.storage.store import TokenStore, write_store

CPU = torch.device("cpu")


def kept(folder: Path) -> list[int]:
    found: list[int] = json.loads((folder / "kept.json").read_text())["train"]
    return found


def test_the_tokenizer_reports_its_error_on_test_images(bench: Bench) -> None:
    plan = plan_of()
    result, folder = bench.run_to(plan, "tokenizer")
    node = plan.nodes[0]
    tokenizer = load_tokenizer(node.payload.tokenizer, node.payload.data, folder, CPU)  # type: ignore[attr-defined]
    images = digits(DigitsData(kind="digits")).read("test", range(540))
    error = (tokenizer.decode(tokenizer.encode(images)) - images).square().mean()
    assert result.metrics["psnr"] == pytest.approx(float(-10 * error.log10()))


@pytest.mark.parametrize(
    "quantizer",
    [{"kind": "ema", "codebook_size": 16}, {"kind": "fsq", "levels": [4, 4]}, {"kind": "lfq", "bits": 4}],
)
def test_a_trained_tokenizer_gives_tokens_too(bench: Bench, quantizer: dict[str, object]) -> None:
    tokenizer = {"kind": "vqvae", "quantizer": quantizer, "width": 8, "train": {"steps": 20, "batch_size": 64}}
    result, folder = bench.run_to(plan_of(tokenizer=tokenizer), "tokens")
    store = TokenStore.open(folder / "train.tokens")
    assert store.grid == (4, 4)
    assert result.facts["codes_used"] == store.num_codes <= 16
    if quantizer["kind"] != "ema":
        assert store.accounting.codebook <= 2


@pytest.mark.parametrize("quantizer", [{"kind": "fsq", "levels": [4, 4]}, {"kind": "lfq", "bits": 4}])
def test_stores_of_computed_codes_name_the_training_that_they_are_of(
    bench: Bench, quantizer: dict[str, object]
) -> None:
    tokenizer = {"kind": "vqvae", "quantizer": quantizer, "width": 8, "train": {"steps": 2, "batch_size": 64}}
    folders = [bench.run_to(plan_of(tokenizer=tokenizer | {"seed": seed}), "tokens")[1] for seed in (0, 1)]
    one, other = (TokenStore.open(folder / "train.tokens") for folder in folders)
    assert one.facts["weights"] == TokenStore.open(folders[0] / "test.tokens").facts["weights"]
    assert one.facts["weights"] != other.facts["weights"]
    with pytest.raises(InputError, match="another training"):
        merge_stores([one, other])


def test_stored_tokens_decode_to_what_the_tokenizer_decodes(bench: Bench) -> None:
    plan = plan_of()
    _, folder = bench.run_to(plan, "tokens")
    node = plan.nodes[0]
    tokenizer = load_tokenizer(node.payload.tokenizer, node.payload.data, bench.root / node.key, CPU)  # type: ignore[attr-defined]
    store = TokenStore.open(folder / "train.tokens")
    images = digits(DigitsData(kind="digits")).read("train", kept(folder))
    own = tokenizer.codebook()[tokenizer.encode(images)]
    assert torch.equal(torch.from_numpy(np.array(store.codes))[torch.from_numpy(store.indices().astype(int))], own)


def test_test_tokens_use_stored_codes_only(bench: Bench) -> None:
    _, folder = bench.run_to(plan_of(storage={"fraction": 0.005}), "tokens")
    train, test = (TokenStore.open(folder / f"{split}.tokens") for split in ("train", "test"))
    assert test.num_images == 540
    assert int(test.indices().max()) < train.num_codes == test.num_codes


def test_a_fraction_is_balanced_over_classes_and_part_of_a_larger_one(bench: Bench) -> None:
    result, folder = bench.run_to(plan_of(storage={"fraction": 0.1}), "tokens")
    assert result.facts["source_images"] == 1257
    small = kept(folder)
    large = kept(bench.run_to(plan_of(storage={"fraction": 0.3}), "tokens")[1])
    assert len(small) == 126
    assert set(small) < set(large)
    counts = np.bincount(digits(DigitsData(kind="digits")).labels("train")[small])
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("codec", ["packed", "seit"])
def test_a_budget_is_used_up_and_never_exceeded(bench: Bench, codec: str) -> None:
    for budget in ("4 kB", "8 B/image"):
        result, folder = bench.run_to(plan_of(storage={"budget": budget, "codec": {"kind": codec}}), "tokens")
        limit = 4000 if budget == "4 kB" else 8 * 1257
        size = (folder / "train.tokens").stat().st_size
        assert result.metrics["bytes"] == size <= limit
        assert size > 0.9 * limit


def test_a_slow_codec_uses_a_budget_up_in_few_measurements_and_codes_the_kept_images_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tokexp.stages import tokens as module

    written: list[int] = []

    def counting(file: Path, indices: np.ndarray, *rest: Any, **named: Any) -> Any:
        written.append(len(indices))
        return write_store(file, indices, *rest, **named)

    monkeypatch.setattr(module, "write_store", counting)
    plan = plan_of(storage={"budget": "4 B/image", "codec": {"kind": "rans_context", "level": "best"}})
    result, folder = bench.run_to(plan, "tokens")
    size, limit = (folder / "train.tokens").stat().st_size, 4 * 1257
    assert result.metrics["bytes"] == size <= limit
    assert size > 0.99 * limit
    store = TokenStore.open(folder / "train.tokens")
    assert store.num_images == len(kept(folder))
    assert written.count(store.num_images) == 1
    assert len(written) <= 7  # the last is that of the test images


def test_interrupted_encoding_goes_on_and_gives_the_same_store(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokexp.stages.encoding.BLOCK", 100)
    plan = plan_of()
    _, straight = bench.run_to(plan, "tokens")
    node = next(node for node in plan.nodes if node.kind == "tokens")
    other = Bench(tmp_path)
    (tmp_path / node.inputs["tokenizer"]).symlink_to(bench.root / node.inputs["tokenizer"])
    stops = iter([False, True])
    stage = implementation("stages", "tokens")(node.payload)
    with pytest.raises(Stopped):
        stage.run(other.context(node, stop=lambda: next(stops)))
    parts = sorted((tmp_path / "work" / node.key).glob("*.block"))
    assert len(parts) == 2
    parts[1].write_bytes(parts[1].read_bytes()[:-1])
    stage.run(other.context(node))
    for name in ("train.tokens", "test.tokens"):
        assert (tmp_path / node.key / name).read_bytes() == (straight / name).read_bytes()
