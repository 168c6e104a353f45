"""Token sets as the files that SeiT released: per split a gzip blob, a gzipped index and labels; one codebook.

Source: Park et al. 2023 (SeiT), released token data set; the bytes are described in `tokexp.storage.seit_bytes`.
`tokexp.data.seit_release` reads the files, so a folder written here is one that `data: {kind: seit_release}` trains on.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tokexp.errors import InputError
from tokexp.storage import seit_bytes
from tokexp.storage.interchange import manifest as manifests
from tokexp.storage.interchange.table import TokenTable, in_parts

CODEBOOK = "codebook.ckpt"
LEVEL = 9
"""Effort of gzip, 1 to 9."""


def stem_of(split: str) -> str:
    """Return how the files of a split begin: `train-token`."""
    return f"{split}-token"


def file_names(stem: str) -> tuple[str, str, str]:
    """Return the names of the blob, the index and the labels: `a-token` has its labels in `a-label.txt`."""
    labels = f"{stem.removesuffix('-token')}-label.txt"
    return f"{stem}.data.bin.gz", f"{stem}.index.npy.gz", labels


def write_folder(tables: Mapping[str, TokenTable], folder: Path) -> None:
    """Write three files per split into an empty folder, the codebook and the manifest.

    Raises InputError for tokens that the released form cannot hold: more than 510 codes, a grid that is not square.
    """
    manifest = manifests.describe("seit", tables)
    first = next(iter(tables.values()))
    if len(first.codes) > seit_bytes.MOST_CODES:
        raise InputError(
            f"SeiT's files hold at most {seit_bytes.MOST_CODES} codes, these tokens have {len(first.codes)}; "
            "export them in another form"
        )
    if first.grid[0] != first.grid[1]:
        raise InputError(f"SeiT's files hold square grids, these tokens have {first.grid[0]} x {first.grid[1]}")
    for split, table in tables.items():
        _write_split(table, *(folder / name for name in file_names(stem_of(split))))
    _write_codebook(folder / CODEBOOK, first.codes)
    manifests.write_manifest(folder, manifest)


def _write_split(table: TokenTable, blob: Path, index: Path, labels: Path) -> None:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, seit_bytes.GZIP)
    lengths = [np.zeros(1, np.int64)]
    with blob.open("wb") as file, labels.open("w", encoding="ascii") as lines:
        for indices, own in in_parts(table.blocks(), 1024):
            stream, taken = seit_bytes.escape(indices.reshape(len(indices), -1))
            file.write(packer.compress(stream.tobytes()))
            lines.writelines(f"{label}\n" for label in own)
            lengths.append(taken)
        file.write(packer.flush())
    index.write_bytes(seit_bytes.gzip_array(np.cumsum(np.concatenate(lengths)), LEVEL))


def _write_codebook(file: Path, codes: np.ndarray) -> None:
    import torch

    torch.save(torch.from_numpy(codes.copy()), file)
