"""Encoding in blocks: shared by processes, on disk instead of in memory, and what is written down beside it."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing

from tests.data.pictures import picture, tree
from tests.stages.running import Bench, plan_of
from tokexp.engine.reporting import Silent
from tokexp.errors import DataError, StageError
from tokexp.plan.graph import StageNode, build_plan
from tokexp.registry import implementation
from tokexp.spec.experiment import Experiment
from tokexp.stages.base import StageResult
from tokexp.stages.encoding import Encoding
from tokexp.storage.store import TokenStore

TOKENS = {"schema": 1, "until": "tokens", "tokenizer": {"kind": "patch_kmeans", "codebook_size": 8, "iterations": 3}}


def folder_plan(root: Path, **data: object) -> "tuple[Experiment, StageNode, StageNode]":
    fields = {"kind": "image_folder", "root": str(root), "image_size": 8, "test_fraction": 0.0} | data
    experiment = Experiment.model_validate({**TOKENS, "data": fields})
    tokenizer, tokens = build_plan(experiment).nodes
    return experiment, tokenizer, tokens


def encode(bench: Bench, root: Path, **data: object) -> tuple[StageResult, Path]:
    _, tokenizer, tokens = folder_plan(root, **data)
    bench.run(tokenizer)
    return bench.run(tokens), bench.root / tokens.key


def _member(rank: int, root: str, fitted: str, port: int, broken: str) -> None:
    from tokexp.engine.processes import join_group
    from tokexp.stages import encoding

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    join_group(torch.device("cpu"))
    encoding.BLOCK = 100
    node = next(node for node in plan_of().nodes if node.kind == "tokens")
    bench = Bench(Path(root))
    if rank == 0:
        (bench.root / node.inputs["tokenizer"]).symlink_to(fitted)
    torch.distributed.barrier()
    context = bench.context(node)
    if rank:
        (bench.root / "member").mkdir()
        object.__setattr__(context, "output", bench.root / "member")
        if broken:
            encoding.Encoding._encoded = _refuse  # type: ignore[assignment,method-assign]
    try:
        implementation("stages", "tokens")(node.payload).run(context)
    except Exception as error:
        (bench.root / f"error-{rank}").write_text(f"{type(error).__name__}: {error}")
    torch.distributed.destroy_process_group()


def _refuse(self: Encoding, block: object) -> np.ndarray:
    raise DataError("'x.png': this image cannot be read")


def _in_two_processes(root: Path, fitted: Path, broken: str = "") -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_member, args=(str(root), str(fitted), port, broken), nprocs=2)


def test_two_processes_write_the_store_of_one(bench: Bench, tmp_path: Path) -> None:
    plan = plan_of()
    _, straight = bench.run_to(plan, "tokens")
    tokens = next(node for node in plan.nodes if node.kind == "tokens")
    _in_two_processes(tmp_path, bench.root / tokens.inputs["tokenizer"])
    assert not list(tmp_path.glob("error-*"))
    assert not list((tmp_path / "member").iterdir())
    for name in ("train.tokens", "test.tokens", "kept.json"):
        assert (tmp_path / tokens.key / name).read_bytes() == (straight / name).read_bytes()


def test_what_one_process_meets_is_told_by_the_first(bench: Bench, tmp_path: Path) -> None:
    plan = plan_of()
    bench.run_to(plan, "tokens")
    tokens = next(node for node in plan.nodes if node.kind == "tokens")
    _in_two_processes(tmp_path, bench.root / tokens.inputs["tokenizer"], "broken")
    said = (tmp_path / "error-0").read_text()
    assert said == f"{StageError.__name__}: process 1: 'x.png': this image cannot be read"
    assert (tmp_path / "error-1").read_text().startswith(DataError.__name__)


@pytest.mark.parametrize("storage", [{"fraction": 0.3}, {"budget": "6 B/image"}])
def test_tokens_on_disk_give_the_store_of_those_in_memory(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: dict[str, object]
) -> None:
    plan = plan_of(storage=storage)
    _, straight = bench.run_to(plan, "tokens")
    node = next(node for node in plan.nodes if node.kind == "tokens")
    other = Bench(tmp_path)
    (tmp_path / node.inputs["tokenizer"]).symlink_to(bench.root / node.inputs["tokenizer"])
    monkeypatch.setattr("tokexp.stages.tokens.IN_MEMORY", 0)
    other.run(node)
    for name in ("train.tokens", "test.tokens", "kept.json"):
        assert (tmp_path / node.key / name).read_bytes() == (straight / name).read_bytes()


def test_progress_counts_images_from_what_is_saved(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(Silent):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int, str]] = []
            self.saved: list[int] = []

        def progress(self, done: int, total: int, unit: str) -> None:
            self.seen.append((done, total, unit))

        def checkpoint(self, step: int, file: str) -> None:
            self.saved.append(step)

    monkeypatch.setattr("tokexp.stages.encoding.BLOCK", 400)
    plan = plan_of()
    bench.run_to(plan, "tokens")
    node = next(node for node in plan.nodes if node.kind == "tokens")
    other = Bench(tmp_path)
    (tmp_path / node.inputs["tokenizer"]).symlink_to(bench.root / node.inputs["tokenizer"])
    stage, seen = implementation("stages", "tokens")(node.payload), Seen()
    stage.run(other.context(node, report=seen))
    # 30 % of 1,257 images, and 540 test images.
    assert seen.seen == [(0, 917, "images"), (377, 917, "images"), (777, 917, "images"), (917, 917, "images")]
    assert seen.saved == [377, 777, 917]
    (tmp_path / "work" / node.key / "test-000000000.block").unlink()
    again = Seen()
    stage.run(other.context(node, report=again))
    assert again.seen == [(517, 917, "images"), (917, 917, "images")]


def test_no_more_images_are_read_at_once_than_asked_for(bench: Bench, tmp_path: Path) -> None:
    asked: list[int] = []

    class Counting:
        def __init__(self, source: object) -> None:
            self._source = source

        def read(self, split: str, positions: list[int]) -> torch.Tensor:
            asked.append(len(positions))
            images: torch.Tensor = self._source.read(split, positions)  # type: ignore[attr-defined]
            return images

    from tokexp.data.digits import build as digits
    from tokexp.spec.data import DigitsData
    from tokexp.stages.assembly import load_tokenizer

    plan = plan_of()
    bench.run_to(plan, "tokenizer")
    fit, node = plan.nodes[0], next(node for node in plan.nodes if node.kind == "tokens")
    data = DigitsData(kind="digits")
    tokenizer = load_tokenizer(fit.payload.tokenizer, data, bench.root / fit.key, torch.device("cpu"))  # type: ignore[attr-defined]
    context = Bench(tmp_path).context(node)
    encoding = Encoding(tokenizer, Counting(digits(data)), {"train": np.arange(1000)}, context)  # type: ignore[arg-type]
    encoding.run()
    assert max(asked) <= 256
    assert np.array_equal(encoding.tokens("train"), tokenizer.encode(digits(data).read("train", range(1000))).numpy())


def test_images_that_cannot_be_read_are_listed_counted_and_left_out(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"ant": 5, "bee": 5})
    (root / "ant" / "001.png").write_bytes(b"")
    result, folder = encode(Bench(tmp_path / "w"), root, corrupt="skip")
    assert json.loads((folder / "skipped.json").read_text()) == {"ant/001.png": "the file is empty"}
    assert result.facts["skipped_images"] == 1
    names = (folder / "train.names.txt").read_text().splitlines()
    assert TokenStore.open(folder / "train.tokens").num_images == len(names) == 9
    assert "ant/001.png" not in names


def test_names_stand_in_the_order_of_the_stored_images(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for number, name in enumerate(["b.png", "a\nb.png", "c.png"]):
        picture(number, (8, 8)).save(root / name)
    _, folder = encode(Bench(tmp_path / "w"), root, labels="none")
    assert (folder / "train.names.txt").read_text().splitlines() == ["a\\nb.png", "b.png", "c.png"]
    store = TokenStore.open(folder / "train.tokens")
    assert (store.num_classes, store.labels.tolist()) == (1, [0, 0, 0])


def test_without_leave_to_skip_the_error_names_what_cannot_be_read(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", {"ant": 5, "bee": 5})
    for name in ("ant/001.png", "bee/003.png"):
        (root / name).write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"^2 images of 10 .*corrupt: skip\): .*ant/001\.png.*bee/003\.png"):
        encode(Bench(tmp_path / "w"), root)
