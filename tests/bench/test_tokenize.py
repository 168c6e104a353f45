"""What the tokenize bench measures is the tokens stage over the images that it says."""

import json
from pathlib import Path

import pytest
import torch

from tokexp.bench.tokenize import _generated, child
from tokexp.storage.store import TokenStore


@pytest.mark.parametrize(("kind", "count", "grid"), [("generated", 3000, (8, 8)), ("16", 70, (8, 8))])
def test_a_process_encodes_every_image_and_says_what_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, count: int, grid: tuple[int, int]
) -> None:
    child(kind, count, str(tmp_path))
    found = json.loads(capsys.readouterr().out)
    assert found["seconds"] > 0
    assert found["peak"] > 2**20
    store = TokenStore.open(tmp_path / "output" / "train.tokens")
    assert (store.num_images, store.grid) == (count, grid)


def test_a_generated_image_depends_on_its_place_alone() -> None:
    source = _generated(100)
    whole = source.read("train", range(100))
    assert torch.equal(source.read("train", [7, 3]), whole[[7, 3]])
    assert len(whole.unique(dim=0)) == 100
    assert (float(whole.min()) >= 0, float(whole.max()) <= 1) == (True, True)
