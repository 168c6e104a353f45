import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tokexp.errors import InputError
from tokexp.storage import store as module
from tokexp.storage.describing import entropy, store_facts, verify_store

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


def test_verifying_names_every_damaged_block(make_store: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_BLOCK", 4)
    path, _ = make_store(images=11, num_codes=200)
    assert verify_store(path) == []
    data = bytearray(path.read_bytes())
    for place in (-1, -19):  # a token is a byte: the last block has 18, the one before 24
        data[place] ^= 1
    path.write_bytes(data)
    first, second = verify_store(path)
    assert "block 1, images 4 to 7" in first
    assert "block 2, images 8 to 10" in second
    assert str(path) in first
    with pytest.raises(InputError):
        verify_store(path.with_name("missing"))


def test_every_single_flipped_bit_is_found(make_store: Maker) -> None:
    path, _ = make_store(images=3)
    whole = path.read_bytes()
    for place in range(8, len(whole)):  # before that stands what tells a store from other files
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            problems = verify_store(path)
        except InputError:
            continue  # it looks like a file of a newer version
        assert problems, place


def test_a_cut_off_store_is_damaged(make_store: Maker) -> None:
    path, _ = make_store(images=3)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    (problem,) = verify_store(path)
    assert "length" in problem
