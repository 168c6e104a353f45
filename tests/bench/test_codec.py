"""The codec bench: what it measures on, and that its bounds count."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokexp.bench import codec
from tokexp.bench.base import run_bench
from tokexp.errors import InputError


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Write smooth random pictures."""
    generator = np.random.default_rng(0)
    for number in range(6):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 20, 3), np.uint8))
        coarse.resize((280, 330), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
    return tmp_path


def test_tokens_to_fit_and_to_measure_are_of_different_pictures(photographs: Path) -> None:
    pictures = [codec._opened(file) for file in codec.photographs_in(photographs)]
    fitted, held = codec.photograph_tokens(pictures, crops=2)
    assert (fitted.shape, held.shape) == ((6, 32, 32), (3, 32, 32))
    assert fitted.max() < codec.CODES
    other = [*pictures[:5], pictures[0]]
    again, moved = codec.photograph_tokens(other, crops=2)
    assert np.array_equal(again, fitted)
    assert np.array_equal(moved[:2], held[:2])
    assert not np.array_equal(moved[2], held[2])


def test_every_bound_of_the_issue_is_a_row(photographs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"CROPS": 2, "MANY": 9000, "FEWER": 8300, "_RATE_IMAGES": 20, "_ROUNDS_TIMED": 2}
    for name, value in {**small, "_READ_IMAGES": (2048, 3072)}.items():
        monkeypatch.setattr(codec, name, value)
    rows = {row.name: row for row in run_bench("codec", photographs)}
    bounds = {name: row.bound for name, row in rows.items() if row.bound is not None}
    assert bounds == {
        "codec/packed decodes": 200_000.0,
        "codec/rans_context:fast over seit": 0.87,
        "codec/rans_context:fast decodes": 10_000.0,
        "codec/rans_context:best over seit": 0.80,
        "codec/decoded array of 4 MB, batch 1,024": 0.3,
        "codec/decoded array of 6 MB, batch 1,024": 0.3,
        "codec/packed, memory of decoding": 1.05,
        "codec/rans_context:fast, memory of decoding": 1.05,
    }
    assert all(row.holds is not None for row in rows.values() if row.bound is not None)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 0 pictures"):
        run_bench("codec", tmp_path)


def test_data_for_a_bench_that_takes_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes no data"):
        run_bench("plan", tmp_path)
