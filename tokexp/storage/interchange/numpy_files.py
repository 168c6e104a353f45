"""Token sets as NumPy's .npz: one file per split with `indices`, `labels`, `codes` and `about` (JSON), not compressed.

`numpy.load(FILE, allow_pickle=False)` reads it anywhere. Tokens are written and read block by block; the zip archive's
checksums are checked before anything that was read is used.
"""

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from pydantic import BaseModel, Field

from tokexp.errors import DamagedError, DataError
from tokexp.storage.interchange import manifest as manifests
from tokexp.storage.interchange.reading import (
    NOTHING,
    Given,
    as_indices,
    classes_of,
    codes_of,
    grid_of,
    metric_of,
    ranges,
    splits_named,
)
from tokexp.storage.interchange.table import AT_ONCE, Block, TokenTable, in_parts

_FIELDS = ("indices", "labels")


class About(BaseModel):
    """What `about` of a file holds, as JSON."""

    classes: int = Field(0, ge=0, le=65_536, description="Number of classes.")
    metric: Literal["euclidean", "cosine"] | None = Field(None, description="How a vector finds its nearest code.")
    implicit: bool = Field(False, description="The codes follow from the facts.")
    facts: dict[str, Any] = Field({}, description="What the writer of the tokens noted.")


_BROKEN = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def write_folder(tables: Mapping[str, TokenTable], folder: Path) -> None:
    """Write `SPLIT.npz` for every split into an empty folder, and the manifest."""
    manifest = manifests.describe("numpy", tables)
    for split, table in tables.items():
        write_file(table, folder / f"{split}.npz")
    manifests.write_manifest(folder, manifest)


def write_file(table: TokenTable, path: Path) -> None:
    """Write one split as a new .npz file."""
    about = {
        "classes": table.num_classes, "metric": table.metric, "implicit": table.implicit, "facts": table.facts
    }  # fmt: skip
    said, codes = np.array(json.dumps(about)), np.ascontiguousarray(table.codes, "<f4")
    labels = np.empty(table.images, "<i8")
    with zipfile.ZipFile(path, "w", allowZip64=True) as archive:
        with _member(archive, "indices") as file:
            _write_head(file, np.dtype("<u2"), (table.images, *table.grid))
            start = 0
            for indices, own in in_parts(table.blocks()):
                file.write(np.ascontiguousarray(indices, "<u2").tobytes())
                labels[start : start + len(own)] = own
                start += len(own)
        for name, array in (
            ("labels", labels), ("codes", codes), ("about", said)
        ):  # fmt: skip
            with _member(archive, name) as file:
                npy.write_array(file, array, allow_pickle=False)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    # A ZipInfo of its own has a fixed date, so that equal tokens are equal files.
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)


def _write_head(file: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    npy.write_array_header_1_0(
        file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    )  # fmt: skip


def read(source: Path, given: Given = NOTHING) -> dict[str, TokenTable]:
    """Return the splits of a .npz file, or of a folder of them, which are checked against the folder's manifest.

    Raises DataError for what is no such file, DamagedError for one that is not as written.
    """
    files = [source] if source.is_file() else sorted(source.glob("*.npz"))
    if not files:
        raise DataError(f"{source} is no .npz file and no folder of them")
    manifest = manifests.read_manifest(source) if source.is_dir() else None
    splits = splits_named([file.stem for file in files], given, str(source))
    return {splits[file.stem]: _read_file(file, given, manifest) for file in files}


def _read_file(path: Path, given: Given, manifest: manifests.Manifest | None) -> TokenTable:
    tokens, label = given.fields or _FIELDS
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if tokens not in arrays or label not in arrays:
                raise DataError(f"{path} holds {', '.join(arrays)}; say which are tokens and labels by --fields")
            labels = arrays[label]
            codes = arrays.get("codes")
            about = About.model_validate_json(str(arrays["about"])) if "about" in arrays else About()
        shape = _shape_of(path, tokens)
    except _BROKEN as error:
        raise DataError(f"{path} cannot be read as .npz without pickled objects ({error}); write it again") from error
    if len(shape) < 2 or labels.shape != shape[:1]:
        raise DataError(f"{path} has tokens {shape} and labels {labels.shape}; one label per image is needed")
    grid = grid_of(shape[1:], given, str(path))
    classes = max(classes_of(labels, manifest, str(path)), about.classes)
    return TokenTable(
        grid, shape[0], codes_of(codes, given, str(path)), classes,
        partial(_blocks, path, tokens, labels.astype(np.int64), grid), metric_of(about.metric, given),
        about.implicit and given.codes is None, about.facts,
    )  # fmt: skip


def _head(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    read_head = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read_head(file)
    if fortran or dtype.hasobject:
        raise ValueError("tokens must be whole numbers in C order")
    return shape, dtype


def _shape_of(path: Path, name: str) -> tuple[int, ...]:
    with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
        return _head(file)[0]


def _blocks(path: Path, name: str, labels: np.ndarray, grid: tuple[int, int]) -> Iterator[Block]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            shape, dtype = _head(file)
            size = dtype.itemsize * int(np.prod(shape[1:]))
            for start, stop in ranges(len(labels), AT_ONCE):
                content = file.read((stop - start) * size)
                tokens = np.frombuffer(content, dtype).reshape(stop - start, *shape[1:])
                yield as_indices(tokens, grid, str(path)), labels[start:stop]
            file.read()
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise DamagedError(f"{path} is damaged ({error}): copy it again, or export the tokens again") from error
