"""A writer of MNIST's file format (LeCun et al. 1998): big-endian sizes, then bytes."""

import struct
from pathlib import Path

import numpy as np


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write uint8 values of any shape."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">BBBB", 0, 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def write_mnist(root: Path, name: str, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write a set of 30 training and 10 test images as torchvision expects it; return pixels and labels by split."""
    draws, written = np.random.default_rng(seed), {}
    for split, stem, count in (("train", "train", 30), ("test", "t10k", 10)):
        images, labels = draws.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        write_idx(root / name / "raw" / f"{stem}-images-idx3-ubyte", images)
        write_idx(root / name / "raw" / f"{stem}-labels-idx1-ubyte", labels)
        written[split] = (images, labels)
    return written
