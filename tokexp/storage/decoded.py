"""The decoded array: a store's tokens as plain 16-bit integers in one file, made once per machine, read by all.

    <cache>/decoded/<key>.u16      little-endian, image after image
    <cache>/decoded/<key>.lock     held by the process that makes it

The key is a digest of all that is in the store: equal stores share an array, a changed one never meets an old array.
The cache is TOKEXP_CACHE, else tokexp's folder in the user's cache; on a cluster, name a local disk. An array is mapped
into memory: processes share its pages, and the next start needs no decoding. `tokexp gc` removes those that nobody has
opened for a week.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from tokexp.durable import written_whole
from tokexp.storage.store import TokenStore

VARIABLE = "TOKEXP_CACHE"
"""Environment variable that names the cache."""

SHARED_BYTES = 1 << 28
"""Decoded tokens of this size and more are shared by processes; smaller ones each decodes for itself."""

SLOW_KINDS = frozenset({"rans_context"})
SLOW_BYTES = 1 << 25
"""The same for codecs that take seconds for this much."""

UNUSED_S = 7 * 24 * 3600.0
"""Seconds after which an array that nobody opened may go."""

_LEFT_S = 24 * 3600.0
_MOST_THREADS = 16


def tokens_of(store: TokenStore) -> np.ndarray:
    """Return all tokens of a store, uint16 (N, rows, columns): shared by processes if it is large, else its own copy.

    Raises DamagedError. Where the cache cannot be written, the tokens are decoded into this process's memory.
    """
    size = 2 * store.num_images * store.grid[0] * store.grid[1]
    if size < (SLOW_BYTES if store.codec["kind"] in SLOW_KINDS else SHARED_BYTES):
        return store.indices()
    try:
        return decoded(store, cache_folder())
    except OSError:
        return store.indices()


def cache_folder() -> Path:
    """Return the folder of decoded arrays on this machine."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser() / "decoded"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "tokexp" / "decoded"


def decoded(store: TokenStore, folder: Path) -> np.ndarray:
    """Return the tokens of a store, uint16 (N, rows, columns), mapped from the array in `folder`, made if not there.

    However many processes ask at once, one decodes and the others wait for it. Writing to the result changes nothing
    on disk. Raises DamagedError for a damaged store, OSError if the folder cannot be written.
    """
    shape = (store.num_images, *store.grid)
    if not store.num_images:
        return np.empty(shape, np.uint16)
    path = folder / f"{store.content_key()}.u16"
    if not _is_whole(path, shape):
        folder.mkdir(parents=True, exist_ok=True)
        with _held(path.with_suffix(".lock")):
            if not _is_whole(path, shape):
                _decode(store, path)
    os.utime(path)
    return np.memmap(path, "<u2", "c", shape=shape)


def unused(folder: Path, now: float | None = None) -> list[Path]:
    """Return the arrays in a folder that nobody opened for a week, and what a process that died left of one."""
    moment = time.time() if now is None else now
    found = []
    for path in sorted(folder.glob("*.u16")) + sorted(folder.glob("*.lock")) + sorted(folder.glob(".*.u16.*")):
        patience = _LEFT_S if path.name.startswith(".") else UNUSED_S
        try:
            if moment - path.stat().st_mtime > patience:
                found.append(path)
        except FileNotFoundError:
            continue
    return found


def _is_whole(path: Path, shape: tuple[int, ...]) -> bool:
    # A file under its own name was renamed there when it was complete and on disk.
    try:
        return path.stat().st_size == 2 * int(np.prod(shape))
    except FileNotFoundError:
        return False


def _decode(store: TokenStore, path: Path) -> None:
    with written_whole(path) as beside, beside.open("wb") as file:
        starts = np.concatenate([[0], np.cumsum(store.block_sizes())])[:-1] * 2 * store.grid[0] * store.grid[1]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with ThreadPoolExecutor(min(cores, _MOST_THREADS)) as pool:
            # Each thread holds one part at a time; the array itself is the page cache's.
            for _ in pool.map(partial(_fill, store, file.fileno()), range(store.num_blocks), starts.tolist()):
                pass


def _fill(store: TokenStore, file: int, number: int, start: int) -> None:
    # Written, not mapped: the system then keeps the array in large pieces, of which rows are found a third faster.
    for part in store.parts_of(number):
        left = np.ascontiguousarray(part, "<u2").data.cast("B")
        while left:
            written = os.pwrite(file, left, start)
            left, start = left[written:], start + written


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock file until the block ends; it waits for other holders."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
