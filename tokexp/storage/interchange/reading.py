"""What a form does not say about its tokens, and where it is taken from: a manifest, the caller, or a rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np

from tokexp.errors import DataError
from tokexp.storage.interchange.manifest import Manifest


@dataclass(frozen=True)
class Given:
    """What the caller says of tokens that are read; None where the form is asked.

    codes: float32 (K, d). fields: the names of tokens and label in a record. split: what the one split is.
    """

    grid: tuple[int, int] | None = None
    codes: np.ndarray | None = None
    metric: str | None = None
    fields: tuple[str, str] | None = None
    split: str | None = None


NOTHING = Given()


def split_named(stem: str) -> str:
    """Return the split that a name tells: of `imagenet1k-val-token` it is `test`; `train` if it tells nothing."""
    words = stem.lower().replace("_", "-").replace(".", "-").split("-")
    for split, names in _WORDS.items():
        if any(word in names for word in words):
            return split
    return "train"


_WORDS = {
    "test": ("test", "val", "valid", "validation"), "select": ("select",), "train": ("train", "training"),
}  # fmt: skip


def splits_named(names: Sequence[str], given: Given, what: str) -> dict[str, str]:
    """Return the split of every name. Where one is called test, a validation split is `select`.

    Raises DataError if two names mean the same split, or if the caller says what one split is and there are more.
    """
    if given.split is not None:
        if len(names) != 1:
            raise DataError(f"{what} holds {', '.join(names)}; --split is for a single one, so name its file")
        return {names[0]: given.split}
    tested = any("test" in name.lower() for name in names)
    found = {}
    for name in names:
        split = split_named(name)
        found[name] = "select" if split == "test" and tested and "test" not in name.lower() else split
    if len(set(found.values())) < len(found):
        raise DataError(
            f"{what} holds {', '.join(names)}, of which two are the same split; import one by one with --split"
        )
    return found


def grid_of(shape: tuple[int, ...], given: Given, what: str) -> tuple[int, int]:
    """Return the grid of an image's tokens of a shape (tokens,) or (rows, columns). Raises DataError if unclear."""
    if len(shape) == 2 and given.grid in (None, shape):
        return shape[0], shape[1]
    count = int(np.prod(shape))
    if given.grid is not None:
        if given.grid[0] * given.grid[1] != count:
            raise DataError(
                f"{what} has {count} tokens per image, not {given.grid[0]} x {given.grid[1]}; correct --grid"
            )
        return given.grid
    side = isqrt(count)
    if len(shape) != 1 or side * side != count or not side:
        raise DataError(f"{what} has tokens of shape {shape} per image, which is no grid; say ROWSxCOLUMNS by --grid")
    return side, side


def codes_of(found: np.ndarray | None, given: Given, what: str) -> np.ndarray:
    """Return float32 codes (K, d). Raises DataError if there are none, or they are no codes."""
    codes = given.codes if given.codes is not None else found
    if codes is None:
        raise DataError(f"{what} holds no codebook; name its file by --codebook (.npy, .safetensors or a torch tensor)")
    if codes.ndim != 2 or codes.dtype.kind not in "fiu" or not np.isfinite(codes).all():
        raise DataError(f"{what}: a codebook is finite numbers (codes, width), not {codes.dtype} {codes.shape}")
    return np.ascontiguousarray(codes, np.float32)


def metric_of(found: str | None, given: Given, default: str = "euclidean") -> str:
    """Return the metric that the caller gives, else the one found, else the default."""
    return given.metric or found or default


def classes_of(labels: np.ndarray, manifest: Manifest | None, what: str) -> int:
    """Return the number of classes of labels (N,). Raises DataError for labels that are no class numbers."""
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or (len(labels) and int(labels.min()) < 0):
        raise DataError(f"{what} has labels that are no class numbers from 0 on; tokexp needs one per image")
    most = int(labels.max()) + 1 if len(labels) else 0
    return max(most, manifest.classes) if manifest is not None else most


def as_indices(tokens: np.ndarray, grid: tuple[int, int], what: str) -> np.ndarray:
    """Return uint16 indices (n, rows, columns) of whole numbers (n, ...). Raises DataError for others."""
    if tokens.dtype.kind not in "iu":
        raise DataError(f"{what} has tokens of the type {tokens.dtype}; whole numbers are needed")
    if tokens.size and not 0 <= int(tokens.min()) <= int(tokens.max()) <= 0xFFFF:
        raise DataError(f"{what} has tokens from {int(tokens.min())} to {int(tokens.max())}; 0 to 65,535 can be stored")
    if int(np.prod(tokens.shape[1:])) != grid[0] * grid[1]:
        raise DataError(f"{what} has an image of {int(np.prod(tokens.shape[1:]))} tokens, not {grid[0]} x {grid[1]}")
    return tokens.astype(np.uint16).reshape(len(tokens), *grid)


def load_codes(folder: Path) -> np.ndarray | None:
    """Return the codes of `codebook.npy` in a folder, or None if there is no such file. Raises DataError."""
    path = folder / "codebook.npy"
    if not path.is_file():
        return None
    try:
        codes: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as a codebook ({error}); copy it again") from error
    return codes


def save_codes(folder: Path, codes: np.ndarray) -> None:
    """Write `codebook.npy`: little-endian float32 (K, d)."""
    np.save(folder / "codebook.npy", np.ascontiguousarray(codes, "<f4"), allow_pickle=False)


def ranges(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive parts of at most `size` out of `count`."""
    for start in range(0, count, size):
        yield start, min(start + size, count)
