"""The token files that SeiT released, read as they are.

Source: Park et al. 2023 (SeiT), format of the released reader (naver-ai/seit, datasets.py). The gzip stream of a split
is the concatenation of its images; the index holds N + 1 byte offsets into the unpacked stream. An id below 255 is one
byte; from 255 on it is the byte 255 and then the id less 255, so 509 is the largest. Nothing in the files says their
grid, so every image is checked for the number of tokens of the spec.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tokexp.data.base import GivenCodes, TokenSource
from tokexp.data.released import find_release
from tokexp.errors import DataError
from tokexp.spec.data import SeitReleaseData

ESCAPE = 255
"""The byte that adds 255 to the next one."""

_BLOCK = 4096


class SeitRelease(TokenSource):
    """Released tokens. grid: (rows, columns). codebook: as stored. Splits are `train` and `test`.

    The released order within a split is kept; sample ids are the stem and the place: `imagenet1k-val-token/0000042`.
    """

    splits: tuple[str, ...] = ("train", "test")

    def __init__(self, spec: SeitReleaseData) -> None:
        """Find the files, read codebook and labels. Raises DataError if one is missing or not what the spec says."""
        release = find_release(spec)
        self.grid = (spec.grid, spec.grid)
        self.codebook = GivenCodes(read_codebook(release.codebook, (spec.codebook_size, spec.code_dim)), "cosine")
        self._files = {"train": release.train, "test": release.test}
        self._stems = {"train": spec.train, "test": spec.test}
        self._offsets = {name: read_index(files.index) for name, files in self._files.items()}
        self._labels = {
            name: read_labels(files.labels, len(self._offsets[name]) - 1) for name, files in self._files.items()
        }
        most = max(int(labels.max(initial=0)) for labels in self._labels.values())
        self.classes = tuple(map(str, range(most + 1)))

    def labels(self, split: str) -> np.ndarray:
        """Return the int64 labels (N,) of a split."""
        return self._labels[split]

    def sample_ids(self, split: str) -> list[str]:
        """Return one name per image."""
        return [f"{self._stems[split]}/{place:07d}" for place in range(len(self._labels[split]))]

    def blocks(self, split: str) -> Iterator[np.ndarray]:
        """Yield the uint16 tokens (n, rows, columns) of a split, some images at a time.

        Raises DataError naming file and image where the bytes are not what the format and the spec say.
        """
        return read_blocks(self._files[split].data, self._offsets[split], self.grid, len(self.codebook.vectors))


def read_blocks(file: Path, offsets: np.ndarray, grid: tuple[int, int], num_codes: int) -> Iterator[np.ndarray]:
    """Yield uint16 tokens (n, rows, columns) of some images at a time; `offsets` are those of the file's index.

    Raises DataError naming file and image where the bytes are not what the format, the grid and the codes say.
    """
    try:
        with gzip.open(file) as stream:
            for first in range(0, len(offsets) - 1, _BLOCK):
                bounds = offsets[first : first + _BLOCK + 1]
                content = _exactly(stream, int(bounds[-1] - bounds[0]), file)
                block = decode_records(content, bounds - bounds[0], grid[0] * grid[1], num_codes, str(file), first)
                yield block.reshape(-1, *grid)
            if stream.read(1):
                raise DataError(f"{str(file)!r} is longer than its index says ({offsets[-1]} bytes); {_AGAIN}")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{str(file)!r} cannot be unpacked ({error}); {_AGAIN}") from error


_AGAIN = "fetch the files again"


def decode_records(
    content: np.ndarray, bounds: np.ndarray, tokens: int, num_codes: int, file: str, first: int = 0
) -> np.ndarray:
    """Return uint16 ids (n, tokens) of records in `content` (uint8), record i from bounds[i] to before bounds[i + 1].

    `file` and `first`, the number of the first record, are for messages. Raises DataError.
    """

    def refuse(wrong: np.ndarray, what: str) -> None:
        if len(wrong):
            record = first + int(np.searchsorted(bounds, wrong[0], side="right")) - 1
            raise DataError(f"{file!r}: image {record} {what}; {_AGAIN}, or correct grid and codebook_size")

    escape = content == ESCAPE
    follows = np.zeros_like(escape)
    follows[1:] = escape[:-1]
    starts = bounds[:-1][bounds[:-1] < len(content)]
    refuse(starts[follows[starts]] - 1, "ends within a two-byte id")
    refuse(np.flatnonzero(escape[-1:]) + len(content) - 1, "ends within a two-byte id")
    refuse(np.flatnonzero(escape & follows), "holds two bytes 255 in a row, which no id is written as")
    ends = np.flatnonzero(~escape)
    ids = content[ends].astype(np.uint16) + follows[ends].astype(np.uint16) * ESCAPE
    counts = np.diff(np.searchsorted(ends, bounds))
    wrong = np.flatnonzero(counts != tokens)
    if len(wrong):
        record, found = first + int(wrong[0]), int(counts[wrong[0]])
        raise DataError(f"{file!r}: image {record} has {found} tokens where the grid asks for {tokens}; correct grid")
    refuse(ends[ids >= num_codes], f"holds an id above {num_codes - 1}, the last of the codebook")
    grid: np.ndarray = ids.reshape(-1, tokens)
    return grid


def read_codebook(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Return codes (K, d) float32 from a bare tensor (torch), .npy or .safetensors file, of a shape if it is known.

    Raises DataError.
    """
    try:
        codes = _tensor_in(path)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise DataError(
            f"{str(path)!r} cannot be read as a codebook ({reason}); it must hold one bare tensor"
        ) from error
    except Exception as error:  # For what is no file of tensors torch raises nearly anything, with advice of its own.
        raise DataError(
            f"{str(path)!r} cannot be read as a codebook; it must hold one bare tensor, and nothing beside it"
        ) from error
    if shape is not None and tuple(codes.shape) != shape:
        raise DataError(
            f"{str(path)!r} holds a tensor of shape {tuple(codes.shape)}, the spec says {shape}; "
            "correct codebook_size and code_dim"
        )
    if codes.ndim != 2 or not np.isfinite(codes).all():
        raise DataError(f"{str(path)!r} holds no codes (codes, width) of finite numbers; {_AGAIN}")
    return codes


def _tensor_in(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors = list(load_file(path).values())
    else:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        tensors = [loaded]
    if len(tensors) != 1 or not isinstance(tensors[0], torch.Tensor):
        raise ValueError("not one bare tensor")
    codes: np.ndarray = tensors[0].detach().float().numpy()
    return codes


def read_index(path: Path, *, may_be_empty: bool = False) -> np.ndarray:
    """Return the int64 offsets (N + 1,) of a gzipped index, N at least 1 unless it may be empty. Raises DataError."""
    try:
        with gzip.open(path) as stream:
            offsets = np.load(io.BytesIO(stream.read()), allow_pickle=False)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{str(path)!r} is not a gzipped .npy file ({error}); {_AGAIN}") from error
    if offsets.ndim != 1 or len(offsets) < 2 - may_be_empty or offsets.dtype.kind not in "iu":
        raise DataError(f"{str(path)!r} must hold a row of at least {2 - may_be_empty} whole numbers; {_AGAIN}")
    offsets = np.asarray(offsets, dtype=np.int64)
    if offsets[0] != 0 or (np.diff(offsets) < 0).any():
        wrong = 0 if offsets[0] != 0 else int(np.flatnonzero(np.diff(offsets) < 0)[0]) + 1
        raise DataError(f"{str(path)!r}: entry {wrong} ({offsets[wrong]}) must start at 0 and never fall; {_AGAIN}")
    return offsets


def read_labels(path: Path, count: int) -> np.ndarray:
    """Return the int64 labels (count,) of a text file, one per line. Raises DataError."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    labels = np.empty(len(lines), dtype=np.int64)
    for number, line in enumerate(lines):
        if not line.strip().isdecimal():
            raise DataError(f"{str(path)!r}, line {number + 1}: {line[:40]!r} is not a class number; one per line")
        labels[number] = int(line)
    if len(labels) != count:
        raise DataError(f"{str(path)!r} has {len(labels)} labels where the index has {count} images; {_AGAIN}")
    return labels


def _exactly(stream: gzip.GzipFile, size: int, file: Path) -> np.ndarray:
    content = stream.read(size)
    if len(content) != size:
        raise DataError(f"{str(file)!r} is shorter than its index says; {_AGAIN}")
    return np.frombuffer(content, dtype=np.uint8)


def build(spec: SeitReleaseData) -> SeitRelease:
    """Return the source for a spec."""
    return SeitRelease(spec)
