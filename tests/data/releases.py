"""A writer of SeiT's released files, from the format's description: for tests only."""

import gzip
import io
from pathlib import Path

import numpy as np
import torch


def encode(ids: np.ndarray) -> bytes:
    """One byte below 255; from 255 on the byte 255 and the rest."""
    return b"".join(bytes([v]) if v < 255 else bytes([255, v - 255]) for v in ids.flatten().tolist())


def write_split(root: Path, stem: str, tokens: np.ndarray, labels: list[int]) -> None:
    """Write data, index and labels of tokens (N, rows, columns)."""
    write_bytes(root, stem, [encode(image) for image in tokens], labels)


def write_bytes(root: Path, stem: str, records: list[bytes], labels: list[int]) -> None:
    """Write records as they are."""
    root.mkdir(parents=True, exist_ok=True)
    offsets = np.cumsum([0, *map(len, records)])
    (root / f"{stem}.data.bin.gz").write_bytes(gzip.compress(b"".join(records)))
    buffer = io.BytesIO()
    np.save(buffer, offsets)
    (root / f"{stem}.index.npy.gz").write_bytes(gzip.compress(buffer.getvalue()))
    (root / f"{stem}.label.txt").write_text("".join(f"{label}\n" for label in labels))


def write_codebook(path: Path, codes: int, width: int) -> torch.Tensor:
    """Write a bare tensor of random codes and return it."""
    tensor = torch.randn(codes, width, generator=torch.Generator().manual_seed(0))
    torch.save(tensor, path)
    return tensor
