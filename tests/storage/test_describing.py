import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokexp.errors import InputError
from tokexp.storage.describing import entropy, export_store, store_facts, verify_store

Maker = Callable[..., tuple[Path, dict[str, Any]]]


def test_the_facts_tell_content_bytes_and_bounds(make_store: Maker) -> None:
    path, content = make_store(images=40, num_codes=11)
    facts = store_facts(path)
    counts = np.array([(content["indices"] == code).sum() for code in range(11)])
    shares = counts / counts.sum()
    assert (facts["images"], facts["grid"], facts["codes"], facts["code_width"]) == (40, [2, 3], 11, 2)
    assert facts["codes_in_use"] == 11
    assert facts["accounting"]["total"] == path.stat().st_size
    assert facts["bits_per_token"] == 4.0
    assert facts["uniform_bits_per_token"] == math.log2(11)
    assert facts["entropy_bits_per_token"] == pytest.approx(-sum(p * math.log2(p) for p in shares))
    assert json.loads(json.dumps(facts)) == facts


def test_the_facts_of_an_empty_store_are_all_numbers(make_store: Maker) -> None:
    facts = store_facts(make_store(images=0)[0])
    assert (facts["bits_per_token"], facts["entropy_bits_per_token"], facts["codes_in_use"]) == (0.0, 0.0, 0)


@pytest.mark.parametrize(("counts", "bits"), [([4, 4, 4, 4], 2.0), ([9, 0], 0.0), ([0], 0.0), ([2, 1, 1], 1.5)])
def test_entropy_of_known_distributions(counts: list[int], bits: float) -> None:
    assert entropy(np.array(counts)) == bits


def test_verifying_names_the_damage_or_nothing(make_store: Maker) -> None:
    path, _ = make_store()
    assert verify_store(path) == []
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    (problem,) = verify_store(path)
    assert str(path) in problem
    with pytest.raises(InputError):
        verify_store(path.with_name("missing"))


def test_exports_to_numpy_hold_the_content(make_store: Maker, tmp_path: Path) -> None:
    path, content = make_store()
    assert export_store(path, tmp_path / "a.npz") == [tmp_path / "a.npz"]
    with np.load(tmp_path / "a.npz") as exported:
        for name, array in content.items():
            assert np.array_equal(exported[name], array)
    export_store(path, tmp_path / "a.npy")
    assert np.array_equal(np.load(tmp_path / "a.npy"), content["indices"])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.npy", "a.npz", path.name]


def test_an_export_never_overwrites_and_knows_its_suffixes(make_store: Maker, tmp_path: Path) -> None:
    path, _ = make_store(grid=(2, 2))
    (tmp_path / "a.npy").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        export_store(path, tmp_path / "a.npy")
    with pytest.raises(InputError, match="npz or"):
        export_store(path, tmp_path / "a.csv")
    with pytest.raises(InputError, match="make it first"):
        export_store(path, tmp_path / "none" / "a.npy")
    export_store(path, tmp_path / "folder")
    with pytest.raises(InputError, match="exists already"):
        export_store(path, tmp_path / "folder")
    assert (tmp_path / "a.npy").read_text() == "mine"
