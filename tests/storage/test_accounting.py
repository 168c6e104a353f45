from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokexp.storage import store as module
from tokexp.storage.accounting import Accounting
from tokexp.storage.store import TokenStore

Maker = Callable[..., tuple[Path, dict[str, Any]]]


@pytest.mark.parametrize("kind", ["packed", "seit"])
@pytest.mark.parametrize("images", [0, 1, 9])
def test_the_parts_add_up_to_the_files_size(
    make_store: Maker, monkeypatch: pytest.MonkeyPatch, kind: str, images: int
) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_BLOCK", 4)
    path, _ = make_store(images=images, kind=kind)
    accounting = TokenStore.open(path).accounting
    assert accounting.total == path.stat().st_size
    assert accounting.images == images


def test_every_part_of_a_packed_store_is_what_its_content_needs(make_store: Maker) -> None:
    path, _ = make_store(images=8, grid=(4, 4), num_codes=64, classes=10)
    accounting = TokenStore.open(path).accounting
    assert accounting.indices == 8 * 12
    assert accounting.labels == 4
    assert accounting.codebook == 64 * 2 * 4
    assert accounting.index == 3 * 24


def test_the_offsets_of_a_seit_store_count_as_index(make_store: Maker) -> None:
    small = TokenStore.open(make_store(images=10, kind="seit")[0]).accounting
    large = TokenStore.open(make_store(images=400, kind="seit")[0]).accounting
    assert large.index > small.index > 3 * 24


def test_bytes_per_image_is_the_whole_file_over_its_images() -> None:
    accounting = Accounting(indices=100, index=20, labels=3, codebook=50, header=27, images=8)
    assert accounting.total == 200
    assert accounting.bytes_per_image == 25.0
    assert accounting.as_dict() == {
        "indices": 100, "index": 20, "labels": 3, "codebook": 50, "header": 27, "images": 8, "total": 200,
        "bytes_per_image": 25.0,
    }  # fmt: skip
