r"""The file of a store of tokens or images: sections with digests, so that no byte is used that was not written.

Layout, all numbers little-endian:

    8 bytes   magic          b"\x89TOKEXP\n" (b"\x89TOKIMG\n" for images)
    4 bytes   version        1; 2 if the header says that the codec has tables
    4 bytes   length of the header
    8 bytes   length of the index
    16 bytes  digest over the 24 bytes before, the header and the index
    header    JSON (`tokexp.storage.header`)
    index     per section 8 bytes length and 16 bytes digest: labels, codebook, in version 2 tables, block 0, ...
    sections  in that order, without gaps, up to the end of the file

Digests are blake2b of 16 bytes. Every later version keeps the first 40 bytes' meaning, so any version can tell damage
from a file that is too new for it.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tokexp.errors import DamagedError, InputError

MAGIC = b"\x89TOKEXP\n"
FIRST_VERSION, VERSION = 1, 2
"""A file has the lowest version that can hold it, so that earlier programs read what they can."""


@dataclass(frozen=True)
class Form:
    """What a file of this layout holds: its magic, and the words that messages use.

    parts: the sections before the blocks. blocks: what the others hold. example: the name of such a file.
    """

    magic: bytes
    name: str
    parts: tuple[str, ...]
    blocks: str
    example: str


TOKENS = Form(MAGIC, "token store", ("its labels", "its codebook"), "its tokens", "train.tokens")
IMAGES = Form(b"\x89TOKIMG\n", "store of images", ("its labels", "its soft labels"), "its images", "train.images")

_START = struct.Struct("<8sIIQ")
_ENTRY = struct.Struct("<Q16s")
_DIGEST = 16
_FIXED = _START.size + _DIGEST


@dataclass(frozen=True)
class Section:
    """A stretch of the file: where it begins, its length and its digest."""

    offset: int
    length: int
    digest: bytes


class Container:
    """An opened file: its header's text and its sections, read through a memory-map and checked on reading."""

    def __init__(
        self, path: Path, data: np.ndarray, header: bytes, sections: tuple[Section, ...], form: Form = TOKENS
    ) -> None:
        """Take what `read_container` found."""
        self.path = path
        self._form = form
        self.header = header
        self.sections = sections
        self._data = data
        self._checked: set[int] = set()

    @property
    def header_bytes(self) -> int:
        """Return the bytes that describe the file: all but the index and the sections."""
        return _FIXED + len(self.header)

    @property
    def index_bytes(self) -> int:
        """Return the bytes of the index."""
        return len(self.sections) * _ENTRY.size

    def read(self, number: int) -> np.ndarray:
        """Return a section as uint8, not copied. Raises DamagedError if it is not as written."""
        section = self.sections[number]
        data = self._data[section.offset : section.offset + section.length]
        if number not in self._checked:
            if _digest(data.data) != section.digest:
                part = _part(self._form, number)
                raise DamagedError(f"{self.path} is damaged ({part}): restore it, or make it again")
            self._checked.add(number)
        return data

    def forget(self) -> None:
        """Check every section once more when it is read next."""
        self._checked.clear()


def _part(form: Form, number: int) -> str:
    first = len(form.parts)
    return form.parts[number] if number < first else f"{form.blocks}, block {number - first}"


def fixed_size(header: int, sections: int) -> tuple[int, int]:
    """Return the bytes that describe a file with a header of so many bytes, and those of its index."""
    return _FIXED + header, sections * _ENTRY.size


def write_container(
    path: Path, header: bytes, sections: Iterable[bytes], count: int, form: Form = TOKENS, version: int = FIRST_VERSION
) -> list[int]:
    """Write `count` sections behind a header, and return their lengths. On an error no file is left.

    Sections may come from a generator: only one of them is in memory at a time.
    """
    start = _FIXED + len(header)
    lengths = []
    index = []
    try:
        with path.open("wb") as file:
            file.write(bytes(start + count * _ENTRY.size))
            for section in sections:
                file.write(section)
                lengths.append(len(section))
                index.append(_ENTRY.pack(len(section), _digest(section)))
            assert len(lengths) == count, "fewer or more sections than announced"
            table = b"".join(index)
            fixed = _START.pack(form.magic, version, len(header), len(table))
            file.seek(0)
            file.write(fixed + _digest(fixed, header, table) + header + table)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return lengths


def read_container(path: Path, form: Form = TOKENS) -> Container:
    """Open a file and check its header and index.

    Raises InputError for a file that is missing, not of this form, or newer than this version of tokexp reads;
    DamagedError for one that is not as written.
    """
    data = _mapped(path, form)
    if data[:8].tobytes() != form.magic:
        raise InputError(f"{path} is not a {form.name}: name a file that `tokexp` wrote ({form.example})")
    if len(data) < _FIXED:
        raise _cut_off(path)
    fixed = data[: _START.size].tobytes()
    _, version, header_length, index_length = _START.unpack(fixed)
    start = _FIXED + header_length
    if start + index_length > len(data) or index_length % _ENTRY.size:
        raise _cut_off(path)
    header = data[_FIXED:start].tobytes()
    index = data[start : start + index_length].tobytes()
    if _digest(fixed, header, index) != data[_START.size : _FIXED].tobytes():
        raise DamagedError(f"{path} is damaged (header): restore it, or make it again")
    if version > VERSION:
        raise InputError(f"{path} has format version {version}, this tokexp reads up to {VERSION}: update tokexp")
    sections = tuple(_sections(index, start + index_length))
    if (sections[-1].offset + sections[-1].length if sections else start) != len(data):
        raise _cut_off(path)
    if version > FIRST_VERSION:
        form = replace(form, parts=(*form.parts, "its codec's tables"))
    return Container(path, data, header, sections, form)


def _mapped(path: Path, form: Form) -> np.ndarray:
    try:
        if path.stat().st_size == 0:
            return np.empty(0, np.uint8)
        return np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"the {form.name} {path} cannot be read ({reason}): check the path") from error


def _sections(index: bytes, offset: int) -> Iterator[Section]:
    for length, digest in _ENTRY.iter_unpack(index):
        yield Section(offset, length, digest)
        offset += length


def _cut_off(path: Path) -> DamagedError:
    return DamagedError(f"{path} does not have the length it was written with: restore it, or make it again")


def _digest(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=_DIGEST)
    for part in parts:
        digest.update(part)
    return digest.digest()
