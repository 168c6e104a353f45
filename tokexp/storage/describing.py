"""What the verbs of `tokexp store` say and do: facts of a store, its export, its check."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from tokexp.errors import DamagedError, InputError
from tokexp.storage.renumber import count_codes
from tokexp.storage.seit_files import write_seit_files
from tokexp.storage.store import TokenStore


def store_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a store, JSON-ready: what it holds, where its bytes went, and bits per token.

    `bits_per_token` counts indices alone; beside it stand the bound without any statistics, log2(codes), and the
    order-0 entropy of the tokens. Reads all tokens. Raises InputError and DamagedError.
    """
    store = TokenStore.open(path)
    counts = np.zeros(max(1, store.num_codes), np.int64)
    for number in range(store.num_blocks):
        counts += count_codes(store.block(number), len(counts))
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
    """Return what is wrong with a store: nothing if it is as written. Raises InputError for what is no store."""
    try:
        TokenStore.open(path).verify()
    except DamagedError as error:
        return [str(error)]
    return []


def export_store(path: Path, target: Path) -> list[Path]:
    """Write a store in another form and return the new files.

    `*.npz`: indices, labels and codes. `*.npy`: indices. A name without a suffix: a folder with SeiT's released files.
    Raises InputError for another suffix, for files that exist, and for what SeiT's files cannot hold.
    """
    store = TokenStore.open(path)
    if target.is_dir() or not target.suffix:
        return write_seit_files(store, target)
    if target.suffix not in (".npz", ".npy"):
        raise InputError(f"{target}: end the name in .npz or .npy, or name a folder for SeiT's files")
    if target.exists():
        raise InputError(f"{target} exists already: name another file")
    if not target.parent.is_dir():
        raise InputError(f"the folder {target.parent} does not exist: make it first")
    beside = target.with_name(f".{target.name}.partial")
    with beside.open("wb") as file:
        if target.suffix == ".npy":
            np.save(file, store.indices(), allow_pickle=False)
        else:
            np.savez(file, indices=store.indices(), labels=store.labels, codes=store.codes)
    beside.replace(target)
    return [target]
