"""Token stores that several tests write."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from tokexp.spec.storage import CodecSpec
from tokexp.storage.store import write_store


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """Return a function that writes a store of random content and returns its path and that content."""

    def make(
        images: int = 5, grid: tuple[int, int] = (2, 3), num_codes: int = 11, kind: str = "packed", classes: int = 3
    ) -> tuple[Path, dict[str, Any]]:
        generator = np.random.default_rng(7)
        content = {
            "indices": generator.integers(0, num_codes, (images, *grid)).astype(np.uint16),
            "labels": generator.integers(0, classes, images),
            "codes": generator.normal(size=(num_codes, 2)).astype(np.float32),
        }
        name, _, level = kind.partition(":")
        path = tmp_path / f"{name}{level}-{images}-{num_codes}.tokens"
        spec = TypeAdapter(CodecSpec).validate_python({"kind": name, **({"level": level} if level else {})})
        write_store(path, **content, codec_spec=spec, metric="cosine", num_classes=classes, facts={"note": "a"})
        return path, content

    return make
