r"""The file of a token store: sections with digests, so that no byte is used that is not the one written.

Layout, all numbers little-endian:

    8 bytes   magic          b"\x89TOKEXP\n"
    4 bytes   version        1
    4 bytes   length of the header
    8 bytes   length of the index
    16 bytes  digest over the 24 bytes before, the header and the index
    header    JSON (`tokexp.storage.header`)
    index     per section 8 bytes length and 16 bytes digest: labels, codebook, block 0, block 1, ...
    sections  in that order, without gaps, up to the end of the file

Digests are blake2b of 16 bytes. Every later version keeps the first 40 bytes' meaning, so any version can tell damage
from a file that is too new for it.
"""

import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tokexp.errors import DamagedError, InputError

MAGIC = b"\x89TOKEXP\n"
VERSION = 1

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

    def __init__(self, path: Path, data: np.ndarray, header: bytes, sections: tuple[Section, ...]) -> None:
        """Take what `read_container` found."""
        self.path = path
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
                raise DamagedError(f"{self.path} is damaged ({_part(number)}): restore it, or make it again")
            self._checked.add(number)
        return data

    def forget(self) -> None:
        """Check every section once more when it is read next."""
        self._checked.clear()


def _part(number: int) -> str:
    return ("its labels", "its codebook")[number] if number < 2 else f"its tokens, block {number - 2}"


def write_container(path: Path, header: bytes, sections: Iterable[bytes], count: int) -> list[int]:
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
            fixed = _START.pack(MAGIC, VERSION, len(header), len(table))
            file.seek(0)
            file.write(fixed + _digest(fixed, header, table) + header + table)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return lengths


def read_container(path: Path) -> Container:
    """Open a file and check its header and index.

    Raises InputError for a file that is missing, no token store, or newer than this version of tokexp reads;
    DamagedError for one that is not as written.
    """
    data = _mapped(path)
    if data[:8].tobytes() != MAGIC:
        raise InputError(f"{path} is not a token store: name a file that `tokexp` wrote (train.tokens)")
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
    return Container(path, data, header, sections)


def _mapped(path: Path) -> np.ndarray:
    try:
        if path.stat().st_size == 0:
            return np.empty(0, np.uint8)
        return np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"the token store {path} cannot be read ({reason}): check the path") from error


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
