"""Token stores for tests of what is read from them."""

from pathlib import Path
from typing import Any

import numpy as np

from tokexp.spec.data import TokenStoreData
from tokexp.spec.storage import PackedCodec
from tokexp.storage.store import write_store

BOOK = np.random.default_rng(5).normal(size=(40, 3)).astype(np.float32)
"""The codebook of the tokenizer that the stores are of."""


def write(path: Path, images: int = 30, rows: list[int] | None = None, **content: Any) -> np.ndarray:
    """Write a store of random tokens that uses the codes `rows` of BOOK; return the tokens' vectors.

    The vectors are (images, rows, columns, width). Anything else that a store is written from may be given.
    """
    generator = np.random.default_rng(images + len(path.stem))
    codes = content.pop("codes", BOOK[rows] if rows is not None else BOOK)
    grid, classes = content.pop("grid", (2, 4)), content.pop("num_classes", 3)
    indices = content.pop("indices", generator.integers(0, len(codes), (images, *grid)).astype(np.uint16))
    given = {
        "labels": np.arange(images) % max(1, classes), "codec_spec": PackedCodec(kind="packed"), "metric": "cosine",
        "facts": {"asked_codes": len(BOOK)},
    } | content  # fmt: skip
    write_store(path, indices, codes=codes, num_classes=classes, **given)
    vectors: np.ndarray = codes[indices]
    return vectors


def stored(folder: Path, **fields: Any) -> TokenStoreData:
    """Return the spec of `train.tokens`, with `test.tokens` if it is there, in a folder."""
    test = folder / "test.tokens"
    given = {"kind": "token_store", "train": str(folder / "train.tokens"), "test": str(test) if test.exists() else None}
    return TokenStoreData(**given | fields)
