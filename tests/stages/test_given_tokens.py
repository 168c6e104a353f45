"""Experiments on token stores that were written before: what their stages take, keep and refuse."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.stores import BOOK, write
from tests.stages.running import Bench
from tokexp.errors import DamagedError, DataError
from tokexp.plan.graph import Plan, build_plan
from tokexp.spec.experiment import Experiment
from tokexp.storage.store import TokenStore

MODEL = {"kind": "vit", "width": 16, "depth": 1, "heads": 2, "stem": {"kind": "conv2x2"}}


def plan_on(folder: Path, **changes: Any) -> Plan:
    data = {"kind": "token_store", "train": str(folder / "train.tokens"), "test": str(folder / "test.tokens")}
    tasks = {"probe": {"kind": "probe", "lrs": [0.1], "epochs": 1}}
    given = {"schema": 1, "data": data, "model": MODEL, "tasks": tasks}
    return build_plan(Experiment.model_validate(given | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "train.tokens", 60, list(range(0, 40, 2)))
    write(tmp_path / "test.tokens", 12, list(range(0, 40, 3)))
    return tmp_path


def test_all_tokens_are_kept_and_a_test_code_that_training_lacks_becomes_the_nearest(folder: Path) -> None:
    bench = Bench(folder / "bench")
    result, output = bench.run_to(plan_on(folder), "tokens")
    given = {name: TokenStore.open(folder / f"{name}.tokens") for name in ("train", "test")}
    found = {name: TokenStore.open(output / f"{name}.tokens") for name in ("train", "test")}
    assert np.array_equal(
        found["train"].codes[found["train"].indices()], given["train"].codes[given["train"].indices()]
    )
    assert np.array_equal(found["train"].labels, given["train"].labels)
    wanted = given["test"].codes[given["test"].indices()].reshape(-1, 3)
    known = BOOK[::2] / np.linalg.norm(BOOK[::2], axis=1, keepdims=True)
    assert np.array_equal(
        found["test"].codes[found["test"].indices()].reshape(-1, 3), BOOK[::2][(wanted @ known.T).argmax(1)]
    )
    assert found["train"].facts == {"asked_codes": 40}
    assert (output / "train.tokens").stat().st_size == result.metrics["bytes"]
    assert result.facts["source_images"] == 60


def test_a_budget_and_a_fraction_are_kept_to(folder: Path) -> None:
    bench = Bench(folder / "bench")
    result, output = bench.run_to(plan_on(folder, storage={"fraction": 0.5}), "tokens")
    assert TokenStore.open(output / "train.tokens").num_images == 30
    result, output = bench.run_to(plan_on(folder, storage={"budget": "600 B"}), "tokens")
    size = (output / "train.tokens").stat().st_size
    assert 560 < size <= 600
    assert result.metrics["bytes"] == size
    counts = np.bincount(TokenStore.open(output / "train.tokens").labels)
    assert counts.max() - counts.min() <= 1


def test_training_and_its_test_run_on_a_grid_that_is_not_square(folder: Path) -> None:
    bench = Bench(folder / "bench")
    objective = {"kind": "mtm", "train": {"steps": 2, "batch_size": 8, "warmup": 0.0}}
    for name, images in (("train", 60), ("test", 12)):
        write(folder / f"{name}.tokens", images, grid=(4, 8))
    result, output = bench.run_to(plan_on(folder, objective=objective), "probe/clean")
    assert 0 <= result.metrics["top1"] <= 1
    ids = np.load(output / "predictions.npz", allow_pickle=False)["ids"]
    assert ids[:2].tolist() == ["test/0000000", "test/0000001"]


def test_a_damaged_token_ends_the_stage_before_anything_is_stored(folder: Path) -> None:
    bench = Bench(folder / "bench")
    path = folder / "train.tokens"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    plan = plan_on(folder)
    with pytest.raises(DamagedError, match=r"train\.tokens is damaged \(its tokens, block 0\)"):
        bench.run_to(plan, "tokens")
    assert not list((folder / "bench" / plan.seeds[0]["tokens"]).glob("*.tokens"))


def test_files_that_were_changed_since_the_plan_are_not_used(folder: Path) -> None:
    node = next(node for node in plan_on(folder).nodes if node.kind == "tokens")
    bench = Bench(folder / "bench")
    context = bench.context(node)
    planned = replace(context, job=context.job.model_copy(update={"fingerprint": node.fingerprint}))
    from tokexp.stages.tokens import build

    write(folder / "train.tokens", 61)
    with pytest.raises(DataError, match="changed after this was planned"):
        build(node.payload).run(planned)  # type: ignore[arg-type]


def test_equal_files_elsewhere_are_the_same_stages_and_others_are_not(folder: Path, tmp_path_factory: Any) -> None:
    other = tmp_path_factory.mktemp("elsewhere")
    for name in ("train", "test"):
        (other / f"{name}.tokens").write_bytes((folder / f"{name}.tokens").read_bytes())
    assert plan_on(other).seeds == plan_on(folder).seeds
    assert plan_on(other).spec_hash == plan_on(folder).spec_hash
    write(other / "test.tokens", 13)
    assert plan_on(other).seeds[0]["tokens"] != plan_on(folder).seeds[0]["tokens"]
