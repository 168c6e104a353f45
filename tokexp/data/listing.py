"""What data a spec stands for, and how much of it there is, without reading an image: for plans and stage keys.

Loads no torch, numpy or Pillow (for token stores, numpy alone). Where the data lies is no part of the fingerprint: a
copy elsewhere is the same data.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from tokexp.data.layouts import ImageFile, Layout, find_layout
from tokexp.data.released import Release, count_images, find_release
from tokexp.data.splits import divided_counts
from tokexp.data.torchvision_sets import SETS, TEST_FRACTION, found_in, missing_message
from tokexp.errors import DataError
from tokexp.spec.data import DataSpec, DigitsData, SeitReleaseData, TokenStoreData, TorchvisionData

if TYPE_CHECKING:
    from tokexp.data.token_store import StoredTokens

ABSENT = "absent"
"""The fingerprint of data that is not on this machine."""

DIGITS_PER_CLASS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)
"""Images of each class in scikit-learn's digits."""

_BLOCK = 1 << 20
_LOOKED_AT = 32
"""Files that are looked into where their sizes say nothing."""


def fingerprint(spec: DataSpec, *, strict: bool = True) -> str:
    """Return a hash (32 hex digits) of the data that a spec reads.

    Digits and torchvision's sets are known by name. Folders and zips: paths, sizes and, in a zip, checksums (in a
    folder of which most files have one size, also what some of them begin with); with `fingerprint: content` every
    byte, and then a zip equals its tree. Token stores: their content. Raises DataError if the data is missing or is not
    what the spec says; with `strict` off, that gives "absent".
    """
    try:
        return _digest(_facts(spec))
    except DataError:
        if strict:
            raise
        return ABSENT


def image_counts(spec: DataSpec, *, strict: bool = True) -> dict[str, int]:
    """Return the number of images by split, before unreadable ones are skipped.

    For torchvision's sets these are the published sizes. Raises DataError as `fingerprint` does; with `strict` off,
    that gives {}.
    """
    try:
        return _counts(spec)
    except DataError:
        if strict:
            raise
        return {}


def _digest(facts: Iterable[str]) -> str:
    total = blake2b(digest_size=16)
    for fact in facts:
        total.update(fact.encode("utf-8", "surrogateescape") + b"\0")
    return total.hexdigest()


def _facts(spec: DataSpec) -> Iterator[str]:
    yield spec.kind
    if isinstance(spec, DigitsData):
        yield "1797"
    elif isinstance(spec, TorchvisionData):
        if not (spec.download or found_in(Path(spec.root).expanduser(), spec.name)):
            raise DataError(missing_message(spec))
        yield spec.name
    elif isinstance(spec, SeitReleaseData):
        yield from _release_facts(find_release(spec))
    elif isinstance(spec, TokenStoreData):
        yield from (f"{role} {key}" for role, key in _stored(spec).content_keys().items())
    else:
        yield from _layout_facts(find_layout(spec), content=spec.fingerprint == "content")


def _layout_facts(layout: Layout, *, content: bool) -> Iterator[str]:
    for split, entries in (("train", layout.train), ("test", layout.test)):
        yield f"{split} {len(entries) if entries is not None else 'cut'}"
        files = [file for file, _ in entries or []]
        marks = _contents(layout, files) if content else (f"{file.size} {file.crc}" for file in files)
        for file, mark in zip(files, marks, strict=True):
            yield f"{file.path}\0{mark}"
        if not (content or layout.zipped):
            yield from _beginnings(layout, files)


def _beginnings(layout: Layout, files: list[ImageFile]) -> Iterator[str]:
    """Yield what some files begin with, if most have one size, as uncompressed ones do: it tells nothing of them."""
    if 2 * max(Counter(file.size for file in files).values(), default=0) <= len(files):
        return
    for file in files[:: max(1, len(files) // _LOOKED_AT)][:_LOOKED_AT]:
        try:
            with (layout.root / file.name).open("rb") as opened:
                yield blake2b(opened.read(_BLOCK), digest_size=16).hexdigest()
        except OSError:
            yield "unreadable"


def _contents(layout: Layout, files: list[ImageFile]) -> Iterator[str]:
    try:
        if not layout.zipped:
            yield from (_hash(layout.root / file.name) for file in files)
            return
        with zipfile.ZipFile(layout.root) as archive:
            for file in files:
                yield blake2b(archive.read(file.name), digest_size=16).hexdigest()
    except (OSError, RuntimeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"data.root: {str(layout.root)!r}: a file cannot be read ({error}); copy the data again, or set "
            "data.fingerprint: listing"
        ) from error


def _hash(path: Path) -> str:
    total = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def _stored(spec: TokenStoreData) -> StoredTokens:
    from tokexp.data.token_store import StoredTokens

    return StoredTokens(spec)


def _release_facts(release: Release) -> Iterator[str]:
    for path in release.files():
        yield f"{path.name} {path.stat().st_size}"


def _counts(spec: DataSpec) -> dict[str, int]:
    if isinstance(spec, SeitReleaseData):
        return count_images(find_release(spec))
    if isinstance(spec, TokenStoreData):
        return _stored(spec).counts()
    if isinstance(spec, DigitsData):
        return divided_counts(
            DIGITS_PER_CLASS, None, test_fraction=spec.test_fraction, select_fraction=spec.select_fraction
        )
    if isinstance(spec, TorchvisionData):
        known = SETS[spec.name]
        return divided_counts(
            known.train_images, known.test_images, test_fraction=TEST_FRACTION, select_fraction=spec.select_fraction
        )
    layout = find_layout(spec)
    return divided_counts(
        _per_class(layout, layout.train), None if layout.test is None else _per_class(layout, layout.test),
        test_fraction=spec.test_fraction, select_fraction=spec.select_fraction,
    )  # fmt: skip


def _per_class(layout: Layout, entries: list[tuple[ImageFile, int]]) -> list[int]:
    counted = Counter(label for _, label in entries)
    return [counted[label] for label in range(len(layout.classes))]
