"""Token sets as a Hugging Face dataset on disk: what `datasets.load_from_disk` reads, with one entry per split.

Columns: `tokens`, Array2D uint16 (rows, columns), and `label`, int64. `codebook.npy` and the manifest lie in the same
folder. Needs the library `datasets` (the extra `huggingface`). Nothing is fetched from the Hub.
Source: the documentation of `datasets`, "Process: save" and "Dataset features".
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tokexp.errors import DataError, InputError
from tokexp.storage.interchange import manifest as manifests
from tokexp.storage.interchange.foreign import foreign_table
from tokexp.storage.interchange.reading import (
    NOTHING,
    Given,
    as_indices,
    codes_of,
    grid_of,
    load_codes,
    save_codes,
    splits_named,
)
from tokexp.storage.interchange.table import AT_ONCE, Block, TokenTable, in_parts

_FIELDS = ("tokens", "label")


@contextmanager
def _library() -> Iterator[Any]:
    """Yield the module `datasets`, its bars of progress off meanwhile. Raises InputError if it is not installed."""
    if find_spec("datasets") is None:
        raise InputError("Hugging Face datasets need the library: pip install 'tokexp[huggingface]'")
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield datasets
    finally:
        if shown:
            datasets.enable_progress_bars()


def write_folder(tables: Mapping[str, TokenTable], folder: Path) -> None:
    """Write all splits into an empty folder, the codebook and the manifest. Raises InputError without `datasets`."""
    manifest = manifests.describe("huggingface", tables)
    with _library() as datasets:
        # The library cannot read a split without rows; the manifest tells of it.
        raw = {split: folder / f"{split}.arrow" for split, table in tables.items() if table.images}
        for split, path in raw.items():
            _write_arrow(datasets, tables[split], path)
        found = {split: datasets.Dataset.from_file(str(path)) for split, path in raw.items()}
        datasets.DatasetDict(found).save_to_disk(str(folder))
        del found
    for path in raw.values():
        path.unlink()
    save_codes(folder, next(iter(tables.values())).codes)
    manifests.write_manifest(folder, manifest)


def _write_arrow(datasets: Any, table: TokenTable, path: Path) -> None:
    from datasets.arrow_writer import ArrowWriter

    features = datasets.Features({
        _FIELDS[0]: datasets.Array2D(table.grid, "uint16"), _FIELDS[1]: datasets.Value("int64")
    })  # fmt: skip
    # Not `Dataset.from_generator`: it pickles its generator, and keeps a copy in the user's cache.
    with ArrowWriter(features=features, path=str(path)) as writer:
        for indices, labels in in_parts(table.blocks(), 1024):
            writer.write_batch({_FIELDS[0]: list(indices), _FIELDS[1]: labels})
        writer.finalize()


def read(source: Path, given: Given = NOTHING) -> dict[str, TokenTable]:
    """Return the splits of a saved dataset; a manifest's digests are checked first.

    Raises DataError for what is no such folder, DamagedError for one that is not as written, InputError without
    `datasets`.
    """
    with _library() as datasets:
        if not (source / "dataset_dict.json").is_file() and not (source / "state.json").is_file():
            raise DataError(f"{source} is no folder that a Hugging Face dataset was saved to (save_to_disk)")
        manifest = manifests.read_manifest(source)
        try:
            found = datasets.load_from_disk(str(source))
        except (OSError, ValueError, json.JSONDecodeError) as error:
            raise DataError(f"{source} cannot be read as a Hugging Face dataset ({error}); save it again") from error
    splits = dict(found) if isinstance(found, datasets.DatasetDict) else {"train": found}
    codes = codes_of(load_codes(source), given, str(source))
    named = splits_named(list(splits), given, str(source))
    tables = {named[name]: _table(each, codes, given, manifest, source) for name, each in splits.items()}
    if manifest is not None:
        tables |= {name: _empty(codes, manifest) for name, count in manifest.images.items() if not count}
    return tables


def _empty(codes: np.ndarray, manifest: manifests.Manifest) -> TokenTable:
    return TokenTable(
        manifest.grid, 0, codes, manifest.classes, lambda: iter(()), manifest.metric, manifest.implicit,
        dict(manifest.facts),
    )  # fmt: skip


def _table(
    dataset: Any, codes: np.ndarray, given: Given, manifest: manifests.Manifest | None, source: Path
) -> TokenTable:
    fields = given.fields or _FIELDS
    if missing := [field for field in fields if field not in dataset.column_names]:
        raise DataError(
            f"{source} has the columns {', '.join(dataset.column_names)}, no {missing[0]}; say them by --fields"
        )
    numbers = dataset.with_format("numpy")
    labels = np.asarray(numbers.with_format("numpy", columns=[fields[1]])[:][fields[1]]).reshape(len(dataset))
    if not len(dataset):
        raise DataError(f"{source} has a split without images; leave it out")
    grid = grid_of(np.asarray(numbers[0][fields[0]]).shape, given, str(source))
    blocks = partial(_blocks, numbers, fields, labels.astype(np.int64), grid)
    return foreign_table((grid, labels, codes), blocks, given, manifest, str(source))


def _blocks(numbers: Any, fields: tuple[str, str], labels: np.ndarray, grid: tuple[int, int]) -> Iterator[Block]:
    start = 0
    for part in numbers.iter(AT_ONCE):
        tokens = np.asarray(part[fields[0]])
        if tokens.dtype == object:
            raise DataError("the images of the dataset do not all have as many tokens")
        yield as_indices(tokens, grid, "the dataset"), labels[start : start + len(tokens)]
        start += len(tokens)
