"""Levels of `dct` in token stores: no codebook bytes, every codec, every byte counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from tokexp.errors import InputError
from tokexp.spec.storage import CodecSpec
from tokexp.storage.accounting import Accounting
from tokexp.storage.implicit import computed_codes, whole_levels
from tokexp.storage.interchange.merging import merge_stores
from tokexp.storage.interchange.table import write_table
from tokexp.storage.store import TokenStore, write_store

NOTE: dict[str, Any] = {
    "levels": 16, "block": 2, "quality": 50, "luma": 4, "chroma": 0, "half": False, "scale": "pixel",
    "deviations": [1.0, 2.0, 3.0, 4.0],
}  # fmt: skip
CODECS = ["packed", "seit", "zstd", "rans0", "rans_context"]


def written(path: Path, kind: str = "packed", codes: int = 16, note: dict[str, Any] = NOTE) -> tuple[Accounting, Any]:
    random = np.random.default_rng(2)
    indices = random.binomial(codes - 1, 0.5, (40, 12, 3)).astype(np.uint16)
    codec = TypeAdapter[CodecSpec](CodecSpec).validate_python({"kind": kind})
    labels = random.integers(0, 3, 40)
    used = whole_levels(16)[:codes]
    return write_store(
        path, indices, labels, used, codec, metric="euclidean", num_classes=3, implicit_codebook=True,
        facts={"asked_codes": 16, "dct": note},
    ), indices  # fmt: skip


def test_levels_are_the_whole_numbers_around_zero() -> None:
    assert whole_levels(4).tolist() == [[-2.0], [-1.0], [0.0], [1.0]]
    assert np.array_equal(computed_codes({"dct": NOTE}), whole_levels(16))
    with pytest.raises(InputError, match="levels"):
        computed_codes({"dct": {"levels": 1}})


@pytest.mark.parametrize("kind", CODECS)
def test_levels_come_back_from_every_codec_and_all_bytes_are_counted(kind: str, tmp_path: Path) -> None:
    accounting, indices = written(tmp_path / "a.tokens", kind)
    store = TokenStore.open(tmp_path / "a.tokens")
    assert np.array_equal(store.indices(), indices)
    assert np.array_equal(store.codes, whole_levels(16))
    assert store.facts["dct"] == NOTE
    assert accounting.total == (tmp_path / "a.tokens").stat().st_size
    assert accounting.codebook == 0
    assert accounting.header > len(str(NOTE["deviations"]))


def test_levels_that_are_not_in_use_cost_a_bit_for_each_of_the_alphabet(tmp_path: Path) -> None:
    accounting, _ = written(tmp_path / "a.tokens", codes=9)
    assert accounting.codebook == 2
    assert TokenStore.open(tmp_path / "a.tokens").codes[:, 0].tolist() == [float(level) for level in range(-8, 1)]


def test_stores_of_the_same_coefficients_are_merged(tmp_path: Path) -> None:
    parts = [written(tmp_path / f"{count}.tokens", codes=count)[1] for count in (9, 16)]
    merged = merge_stores([TokenStore.open(tmp_path / f"{count}.tokens") for count in (9, 16)])
    write_table(tmp_path / "all.tokens", merged, TypeAdapter[CodecSpec](CodecSpec).validate_python({"kind": "packed"}))
    store = TokenStore.open(tmp_path / "all.tokens")
    assert store.facts["dct"] == NOTE
    assert np.array_equal(store.indices(), np.concatenate(parts))


def test_stores_of_other_coefficients_are_not(tmp_path: Path) -> None:
    written(tmp_path / "a.tokens")
    written(tmp_path / "b.tokens", note={**NOTE, "quality": 90})
    with pytest.raises(InputError, match="another meaning of coefficients"):
        merge_stores([TokenStore.open(tmp_path / f"{name}.tokens") for name in "ab"])
