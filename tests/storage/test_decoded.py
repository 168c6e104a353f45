"""The decoded array: one process makes it, all read it, and no other content is ever taken for it."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokexp.errors import DamagedError
from tokexp.spec.storage import PackedCodec
from tokexp.storage import decoded as module
from tokexp.storage.decoded import cache_folder, decoded, tokens_of, unused
from tokexp.storage.store import TokenStore, write_store

Maker = Callable[..., tuple[Path, dict[str, Any]]]
KINDS = ["packed", "seit", "zstd", "rans0", "rans_context"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_array_holds_the_tokens_of_the_store(make_store: Maker, tmp_path: Path, kind: str) -> None:
    path, content = make_store(images=9, kind=kind)
    array = decoded(TokenStore.open(path), tmp_path / "cache")
    assert array.dtype == np.uint16
    assert np.array_equal(array, content["indices"])
    assert len(list((tmp_path / "cache").glob("*.u16"))) == 1


def test_a_store_of_several_blocks_is_joined(
    make_store: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokexp.storage.store.IMAGES_PER_BLOCK", 4)
    path, content = make_store(images=11, kind="rans0")
    assert np.array_equal(decoded(TokenStore.open(path), tmp_path), content["indices"])


def test_equal_stores_share_an_array_and_others_do_not(make_store: Maker, tmp_path: Path) -> None:
    path, content = make_store(images=9)
    copy = tmp_path / "copy.tokens"
    copy.write_bytes(path.read_bytes())
    other = tmp_path / "other.tokens"
    write_store(
        other, content["indices"][::-1], content["labels"], content["codes"], PackedCodec(kind="packed"),
        metric="cosine", num_classes=3, facts={"note": "a"},
    )  # fmt: skip
    keys = [TokenStore.open(each).content_key() for each in (path, copy, other)]
    assert keys[0] == keys[1] != keys[2]
    assert np.array_equal(decoded(TokenStore.open(other), tmp_path), content["indices"][::-1])


def test_writing_to_the_array_changes_nothing_for_others(make_store: Maker, tmp_path: Path) -> None:
    store = TokenStore.open(make_store(images=9)[0])
    first = decoded(store, tmp_path)
    first[:] = 0
    assert np.array_equal(decoded(store, tmp_path), store.indices())


def test_an_array_that_was_cut_off_is_made_again(make_store: Maker, tmp_path: Path) -> None:
    store = TokenStore.open(make_store(images=9)[0])
    decoded(store, tmp_path)
    (path,) = tmp_path.glob("*.u16")
    path.write_bytes(path.read_bytes()[:-2])
    assert np.array_equal(decoded(store, tmp_path), store.indices())


def test_a_damaged_store_leaves_no_array(make_store: Maker, tmp_path: Path) -> None:
    path, _ = make_store(images=9, kind="rans_context")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError):
        decoded(TokenStore.open(path), tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*.u16")) == []


def test_an_empty_store_needs_no_file(make_store: Maker, tmp_path: Path) -> None:
    assert decoded(TokenStore.open(make_store(images=0)[0]), tmp_path / "cache").shape == (0, 2, 3)
    assert not (tmp_path / "cache").exists()


def _ask(path: Path, folder: Path, ready: Any, answers: Any) -> None:
    store = TokenStore.open(path)
    made: list[int] = []
    decode = module._decode

    def counted(*arguments: Any) -> None:
        made.append(1)
        decode(*arguments)

    module._decode = counted
    ready.wait()
    array = decoded(store, folder)
    answers.put((len(made), int(array.astype(np.int64).sum())))


def test_of_eight_processes_one_decodes_and_all_read_the_same(make_store: Maker, tmp_path: Path) -> None:
    path, content = make_store(images=500, grid=(8, 8), num_codes=300)
    context = multiprocessing.get_context("fork")
    ready, answers = context.Barrier(8), context.Queue()
    processes = [context.Process(target=_ask, args=(path, tmp_path / "cache", ready, answers)) for _ in range(8)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sum(made for made, _ in found) == 1
    assert {total for _, total in found} == {int(content["indices"].sum())}
    assert [file.suffix for file in (tmp_path / "cache").iterdir() if file.suffix != ".lock"] == [".u16"]


def test_small_stores_are_read_without_the_cache_and_large_ones_with_it(
    make_store: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEXP_CACHE", str(tmp_path / "cache"))
    store = TokenStore.open(make_store(images=9)[0])
    assert np.array_equal(tokens_of(store), store.indices())
    assert not cache_folder().exists()
    monkeypatch.setattr(module, "SHARED_BYTES", 1)
    assert np.array_equal(tokens_of(store), store.indices())
    assert len(list(cache_folder().glob("*.u16"))) == 1


def test_a_slow_codec_is_shared_earlier(make_store: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEXP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SLOW_BYTES", 1)
    for kind in ("rans0", "rans_context"):
        tokens_of(TokenStore.open(make_store(images=9, kind=kind)[0]))
    assert len(list(cache_folder().glob("*.u16"))) == 1


def test_a_cache_that_cannot_be_written_is_done_without(
    make_store: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TOKEXP_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(module, "SHARED_BYTES", 1)
    store = TokenStore.open(make_store(images=9)[0])
    assert np.array_equal(tokens_of(store), store.indices())


def test_what_nobody_opened_for_a_week_may_go(make_store: Maker, tmp_path: Path) -> None:
    store = TokenStore.open(make_store(images=9)[0])
    decoded(store, tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*.u16")
    week = 7 * 24 * 3600
    assert unused(tmp_path / "cache", path.stat().st_mtime + week - 60) == []
    assert path in unused(tmp_path / "cache", path.stat().st_mtime + week + 60)
    os.utime(path, (0, 0))
    decoded(store, tmp_path / "cache")
    assert unused(tmp_path / "cache") == []
