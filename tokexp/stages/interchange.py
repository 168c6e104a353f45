"""The forms that token sets are exchanged in, by name, and the reading of SeiT's files, which are a data kind too."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tokexp.data.released import split_files
from tokexp.data.seit_release import read_blocks, read_codebook, read_index, read_labels
from tokexp.errors import DataError, InputError
from tokexp.storage.interchange import manifest as manifests
from tokexp.storage.interchange.foreign import foreign_table
from tokexp.storage.interchange.reading import NOTHING, Given, grid_of, splits_named
from tokexp.storage.interchange.table import Block, TokenTable

FORMS = ("seit", "numpy", "huggingface", "webdataset")
"""Names of the forms."""

Writer = Callable[[Mapping[str, TokenTable], Path], None]
Reader = Callable[[Path, Given], dict[str, TokenTable]]

_MODULES = {"seit": "seit", "numpy": "numpy_files", "huggingface": "huggingface", "webdataset": "webdataset"}


def writer(form: str) -> Writer:
    """Return what writes splits into an empty folder. Raises InputError for an unknown form."""
    found: Writer = _module(form).write_folder
    return found


def reader(form: str) -> Reader:
    """Return what reads the splits of a file or folder. Raises InputError for an unknown form."""
    if form == "seit":
        return read_seit
    found: Reader = _module(form).read
    return found


def _module(form: str) -> Any:
    if form not in _MODULES:
        raise InputError(f"{form!r} is no form of token sets; there are {', '.join(FORMS)}")
    return import_module(f"tokexp.storage.interchange.{_MODULES[form]}")


def given_codes(path: Path | None) -> np.ndarray | None:
    """Return the float32 codes (K, d) of a file that the caller names (.npy, .safetensors, torch). Raises DataError."""
    return None if path is None else read_codebook(path)


def read_seit(source: Path, given: Given = NOTHING) -> dict[str, TokenTable]:
    """Return the splits of a folder with SeiT's files: every `STEM.data.bin.gz` is one.

    The codebook is `codebook.ckpt` unless codes are given; the metric is the cosine of ViT-VQGAN. Raises DataError.
    """
    stems = [path.name.removesuffix(_BLOB) for path in sorted(source.glob(f"*{_BLOB}"))]
    if not stems:
        raise DataError(f"{source} holds no file *{_BLOB}; name the folder with SeiT's token files")
    manifest = manifests.read_manifest(source)
    codes = given.codes if given.codes is not None else read_codebook(source / "codebook.ckpt")
    splits = splits_named(stems, given, str(source))
    return {splits[stem]: _read_split(source, stem, codes, given, manifest) for stem in stems}


_BLOB = ".data.bin.gz"


def _read_split(
    source: Path, stem: str, codes: np.ndarray, given: Given, manifest: manifests.Manifest | None
) -> TokenTable:
    files = split_files(source, "stem", stem)
    offsets = read_index(files.index, may_be_empty=True)
    labels = read_labels(files.labels, len(offsets) - 1)
    grid = manifest.grid if manifest is not None and given.grid is None else _grid(files.data, offsets, given)

    def blocks() -> Iterator[Block]:
        start = 0
        for indices in read_blocks(files.data, offsets, grid, len(codes)):
            yield indices, labels[start : start + len(indices)]
            start += len(indices)

    return foreign_table((grid, labels, codes), blocks, given, manifest, stem, "cosine")


def _grid(blob: Path, offsets: np.ndarray, given: Given) -> tuple[int, int]:
    """Return the grid, from the number of tokens in the first image if the caller does not say it."""
    if len(offsets) < 2:
        if given.grid is None:
            raise DataError(f"{blob} holds no image, so its grid is not known; say ROWSxCOLUMNS by --grid")
        return given.grid
    try:
        with gzip.open(blob) as stream:
            first = np.frombuffer(stream.read(int(offsets[1])), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{blob} cannot be unpacked ({error}); fetch the files again") from error
    return grid_of((len(first) - int((first == 255).sum()),), given, str(blob))
