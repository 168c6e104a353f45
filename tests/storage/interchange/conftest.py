"""Stores and tables that the tests of forms write and compare."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokexp.spec.storage import PackedCodec
from tokexp.storage import store as module
from tokexp.storage.interchange.table import TokenTable
from tokexp.storage.store import TokenStore, write_store

PACKED = PackedCodec(kind="packed")


@pytest.fixture
def store_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TokenStore]:
    """Return a function that writes a store with blocks of four images, and opens it."""
    monkeypatch.setattr(module, "IMAGES_PER_BLOCK", 4)

    def make(name: str = "train", images: int = 11, **content: Any) -> TokenStore:
        generator = np.random.default_rng(len(name) + images)
        codes = content.pop("codes", np.random.default_rng(5).normal(size=(300, 3)).astype(np.float32))
        grid = content.pop("grid", (4, 4))
        given = {
            "indices": generator.integers(0, max(1, len(codes)), (images, *grid)).astype(np.uint16),
            "labels": generator.integers(0, 3, images), "metric": "cosine", "num_classes": 5, "facts": {"note": "a"},
            "codes": codes, "codec_spec": PACKED,
        } | content  # fmt: skip
        write_store(tmp_path / f"{name}.tokens", **given)
        return TokenStore.open(tmp_path / f"{name}.tokens")

    return make


def everything(table: TokenTable) -> tuple[np.ndarray, np.ndarray]:
    """Return all indices and labels of a table."""
    parts = list(table.blocks())
    if not parts:
        return np.empty((0, *table.grid), np.uint16), np.empty(0, np.int64)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def same(tables: Mapping[str, TokenTable], stores: Mapping[str, TokenStore]) -> None:
    """Assert that tables hold what stores hold."""
    assert tables.keys() == stores.keys()
    for name, table in tables.items():
        indices, labels = everything(table)
        assert indices.dtype == np.uint16
        assert np.array_equal(indices, stores[name].indices())
        assert np.array_equal(labels, stores[name].labels)
        assert table.codes.dtype == np.float32
        assert np.array_equal(table.codes, stores[name].codes)
        assert (table.grid, table.images) == (stores[name].grid, stores[name].num_images)
        assert (table.metric, table.num_classes) == (stores[name].metric, stores[name].num_classes)
        assert table.facts == stores[name].facts
