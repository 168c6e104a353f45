"""What the verbs of `tokexp store` say of a store: its facts, and what is damaged."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from tokexp.errors import DamagedError, InputError
from tokexp.sections import IMAGES, TOKENS, Form, form_of
from tokexp.storage.container import read_container
from tokexp.storage.describing_images import image_facts, verify_images
from tokexp.storage.header import StoreHeader
from tokexp.storage.renumber import count_codes
from tokexp.storage.store import TokenStore


def described(path: Path) -> dict[str, Any]:
    """Return the facts of a file, whether it is a token store or a store of images. Raises InputError for others."""
    return image_facts(path) if _form_of(path) == IMAGES else store_facts(path)


def problems_of(path: Path) -> list[str]:
    """Return everything that is wrong with a token store or a store of images. Raises InputError for other files."""
    return verify_images(path) if _form_of(path) == IMAGES else verify_store(path)


def _form_of(path: Path) -> Form:
    form = form_of(path)
    if form is None and path.is_file():
        raise InputError(
            f"{path} is neither a token store (*.tokens) nor a store of images (*.images): name a file that is one"
        )
    return form or TOKENS


def store_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a store, JSON-ready: what it holds, where its bytes went, and bits per token.

    `bits_per_token` counts indices alone; beside it stand the bound without any statistics, log2(codes), and the
    order-0 entropy of the tokens. Reads all tokens. Raises InputError and DamagedError.
    """
    store = TokenStore.open(path)
    counts = np.zeros(max(1, store.num_codes), np.int64)
    for part in store.parts():
        counts += count_codes(part, len(counts))
    tokens = int(counts.sum())
    accounting = store.accounting
    return {
        "file": str(path),
        "grid": list(store.grid),
        "images": store.num_images,
        "classes": store.num_classes,
        "codes": store.num_codes,
        "codes_in_use": int(np.count_nonzero(counts)),
        "code_width": int(store.codes.shape[1]),
        "metric": store.metric,
        "codec": store.codec,
        "accounting": accounting.as_dict(),
        "bits_per_token": 8 * accounting.indices / tokens if tokens else 0.0,
        "uniform_bits_per_token": math.log2(max(1, store.num_codes)),
        "entropy_bits_per_token": entropy(counts),
        "facts": store.facts,
    }


def entropy(counts: np.ndarray) -> float:
    """Return the entropy in bits of a distribution given by counts; 0 without any."""
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def verify_store(path: Path) -> list[str]:
    """Return everything that is wrong with a store: nothing if it is as written. Damaged blocks are named one by one.

    Raises InputError for what is no store.
    """
    try:
        container = read_container(path)
        header = StoreHeader.from_bytes(container.header)
    except DamagedError as error:
        return [str(error)]
    problems = []
    parts = len(container.sections) - header.num_blocks
    for number in range(len(container.sections)):
        try:
            container.read(number)
        except DamagedError as error:
            problems.append(str(error) if number < parts else _block_problem(path, header, number - parts))
    return problems or _undecodable(path)


def _block_problem(path: Path, header: StoreHeader, number: int) -> str:
    first = number * header.block
    last = first + header.block_size(number) - 1
    return f"{path} is damaged (block {number}, images {first} to {last}): restore it, or make it again"


def _undecodable(path: Path) -> list[str]:
    """Return what no writer of this format can have written, though it has the right digests."""
    try:
        store = TokenStore.open(path)
        for _ in store.parts():
            pass
    except DamagedError as error:
        return [f"{path}: {error}" if str(path) not in str(error) else str(error)]
    return []
