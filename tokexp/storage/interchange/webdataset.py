"""Token sets as WebDataset shards: plain tar files, two members per image, `KEY.npy` (tokens) and `KEY.cls` (label).

Layout: `SPLIT-000000.tar`, ...; members of one key stand together, the key is the part of the name before the first
dot. Tokens are uint16 (rows, columns), the label is its digits. `codebook.npy` and the manifest lie beside the shards.
Nothing but the standard library is needed; the library `webdataset` reads the shards with `.decode()`.
Source: the WebDataset format (webdataset documentation, "the WebDataset format").
"""

import io
import tarfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from tokexp.errors import DataError
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

SHARD_IMAGES = 10_000
"""Images of one shard: at 1,024 tokens about 30 MB."""

_FIELDS = ("npy", "cls")


def write_folder(tables: Mapping[str, TokenTable], folder: Path) -> None:
    """Write the shards of every split into an empty folder, the codebook and the manifest."""
    manifest = manifests.describe("webdataset", tables)
    for split, table in tables.items():
        images = (
            (index, int(label)) for block in in_parts(table.blocks()) for index, label in zip(*block, strict=True)
        )
        for shard in range(max(1, -(-table.images // SHARD_IMAGES))):
            first = shard * SHARD_IMAGES
            with tarfile.open(folder / f"{split}-{shard:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
                for place in range(first, min(first + SHARD_IMAGES, table.images)):
                    indices, label = next(images)
                    _add(archive, f"{place:09d}.npy", _npy(indices))
                    _add(archive, f"{place:09d}.cls", str(label).encode())
    save_codes(folder, next(iter(tables.values())).codes)
    manifests.write_manifest(folder, manifest)


def _npy(indices: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(indices, "<u2"), allow_pickle=False)
    return content.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # dated 1970, of nobody: equal tokens are equal files
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def read(source: Path, given: Given = NOTHING) -> dict[str, TokenTable]:
    """Return the splits of a folder of shards (or of one shard); a manifest's digests are checked first.

    Raises DataError for what is no such folder, DamagedError for one that is not as written.
    """
    files = [source] if source.is_file() else sorted(source.glob("*.tar"))
    if not files:
        raise DataError(f"{source} is no WebDataset shard (.tar) and no folder of them")
    folder = source.parent if source.is_file() else source
    manifest = manifests.read_manifest(folder)
    shards: dict[str, list[Path]] = {}
    for file in files:
        shards.setdefault(file.stem.rpartition("-")[0] or file.stem, []).append(file)
    codes = codes_of(load_codes(folder), given, str(source))
    splits = splits_named(list(shards), given, str(source))
    return {splits[name]: _read_split(paths, codes, given, manifest) for name, paths in shards.items()}


def _read_split(paths: list[Path], codes: np.ndarray, given: Given, manifest: manifests.Manifest | None) -> TokenTable:
    fields = given.fields or _FIELDS
    what = str(paths[0])
    # Shards do not say how much is in them: labels are read first, which also tells the number of images.
    labels = np.array([label for path in paths for label in _labels(path, fields[1])], np.int64)
    first = next((tokens for path in paths for tokens, _ in _samples(path, fields)), None)
    if first is not None:
        grid: tuple[int, int] | None = grid_of(first.shape, given, what)
    else:
        grid = given.grid or (manifest.grid if manifest is not None else None)
    if grid is None:
        raise DataError(f"{what} holds no image, so its grid is not known; say ROWSxCOLUMNS by --grid")
    return foreign_table((grid, labels, codes), partial(_blocks, paths, fields, grid), given, manifest, what)


def _blocks(paths: list[Path], fields: tuple[str, str], grid: tuple[int, int]) -> Iterator[Block]:
    tokens, labels = [], []
    for path in paths:
        for index, label in _samples(path, fields):
            tokens.append(as_indices(index[None], grid, str(path)))
            labels.append(label)
            if len(tokens) == AT_ONCE:
                yield np.concatenate(tokens), np.array(labels, np.int64)
                tokens, labels = [], []
    if tokens:
        yield np.concatenate(tokens), np.array(labels, np.int64)


def _samples(path: Path, fields: tuple[str, str]) -> Iterator[tuple[np.ndarray, int]]:
    """Yield tokens (rows, columns) or (tokens,) and the label of every image of a shard."""
    key, parts = "", dict[str, bytes]()
    for name, content in _members(path):
        own, extension = _cut(name)
        if own != key:
            if key:
                yield _sample(path, key, parts, fields)
            key, parts = own, {}
        parts[extension] = content
    if key:
        yield _sample(path, key, parts, fields)


def _sample(path: Path, key: str, parts: Mapping[str, bytes], fields: tuple[str, str]) -> tuple[np.ndarray, int]:
    missing = [field for field in fields if field not in parts]
    if missing:
        raise DataError(
            f"{path}: {key} has no .{missing[0]}, but {', '.join(f'.{name}' for name in parts)}; see --fields"
        )
    try:
        tokens: np.ndarray = np.load(io.BytesIO(parts[fields[0]]), allow_pickle=False)
        return tokens, int(parts[fields[1]])
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: {key} cannot be read ({error}); tokens are .npy, labels are digits") from error


def _labels(path: Path, extension: str) -> Iterator[int]:
    for name, content in _members(path):
        if _cut(name)[1] == extension:
            if not content.strip().isdigit():
                raise DataError(f"{path}: {name} holds {content[:20]!r} where a class number is needed")
            yield int(content)


def _cut(name: str) -> tuple[str, str]:
    """Return the key of a member, with its folder, and what follows the first dot of its name."""
    folder, slash, own = name.rpartition("/")
    key, _, extension = own.partition(".")
    return folder + slash + key, extension


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    yield member.name, file.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read as a tar file ({error}); copy it again") from error
