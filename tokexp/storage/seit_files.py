"""A token store written as the four files that SeiT released: gzip blob, gzipped index, labels, codebook.

Source: Park et al. 2023 (SeiT), released token data set; `tokexp.data.seit_release` reads it back.
"""

from pathlib import Path

import numpy as np

from tokexp.errors import InputError
from tokexp.storage import seit_bytes
from tokexp.storage.store import TokenStore

CODEBOOK = "codebook.ckpt"


def seit_file_names(stem: str) -> tuple[str, str, str]:
    """Return the names of the blob, the index and the labels: `a-token` has its labels in `a-label.txt`."""
    labels = f"{stem.removesuffix('-token')}-label.txt"
    return f"{stem}.data.bin.gz", f"{stem}.index.npy.gz", labels


def write_seit_files(store: TokenStore, folder: Path, stem: str = "train-token", level: int = 9) -> list[Path]:
    """Write the four files into a folder (made if missing) and return their paths.

    Raises InputError for tokens that the released form cannot hold (more than 510 codes, a grid that is not square)
    and for files that exist already.
    """
    if store.num_codes > seit_bytes.MOST_CODES:
        raise InputError(f"SeiT's files hold at most {seit_bytes.MOST_CODES} codes, {store.path} has {store.num_codes}")
    if store.grid[0] != store.grid[1]:
        raise InputError(f"SeiT's files hold square grids, {store.path} has {store.grid[0]} x {store.grid[1]}")
    files = [folder / name for name in (*seit_file_names(stem), CODEBOOK)]
    for file in files:
        if file.exists():
            raise InputError(f"{file} exists already: name another folder")
    indices = store.indices().reshape(store.num_images, -1)
    blob, offsets = seit_bytes.compress(indices, level)
    folder.mkdir(parents=True, exist_ok=True)
    files[0].write_bytes(blob)
    files[1].write_bytes(seit_bytes.gzip_array(offsets, level))
    files[2].write_text("".join(f"{label}\n" for label in store.labels))
    _write_codebook(files[3], store.codes)
    return files


def _write_codebook(file: Path, codes: np.ndarray) -> None:
    import torch

    torch.save(torch.from_numpy(codes.copy()), file)
