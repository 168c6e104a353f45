"""The file of a store of tokens or images: sections with digests, so that no byte is used that was not written.

The layout is described in `tokexp.sections`, which reads what stands before the sections.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tokexp.errors import DamagedError, InputError
from tokexp.sections import ENTRY, FIRST_VERSION, FIXED, START, TOKENS, Form, Front, cut_off, digest_of, read_front


class Container:
    """An opened file: its header's text and its sections, read through a memory-map and checked on reading."""

    def __init__(self, path: Path, data: np.ndarray, front: Front) -> None:
        """Take what `read_container` found."""
        self.path = path
        self.front = front
        self.header = front.header
        self.sections = front.sections
        self._data = data
        self._checked: set[int] = set()

    @property
    def header_bytes(self) -> int:
        """Return the bytes that describe the file: all but the index and the sections."""
        return FIXED + len(self.header)

    @property
    def index_bytes(self) -> int:
        """Return the bytes of the index."""
        return len(self.sections) * ENTRY.size

    def read(self, number: int) -> np.ndarray:
        """Return a section as uint8, not copied. Raises DamagedError if it is not as written."""
        section = self.sections[number]
        data = self._data[section.offset : section.offset + section.length]
        if number not in self._checked:
            if digest_of(data.data) != section.digest:
                part = _part(self.front.form, number)
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
    return FIXED + header, sections * ENTRY.size


def write_container(
    path: Path, header: bytes, sections: Iterable[bytes], count: int, form: Form = TOKENS, version: int = FIRST_VERSION
) -> list[int]:
    """Write `count` sections behind a header, and return their lengths. On an error no file is left.

    Sections may come from a generator: only one of them is in memory at a time.
    """
    start = FIXED + len(header)
    lengths = []
    index = []
    try:
        with path.open("wb") as file:
            file.write(bytes(start + count * ENTRY.size))
            for section in sections:
                file.write(section)
                lengths.append(len(section))
                index.append(ENTRY.pack(len(section), digest_of(section)))
            assert len(lengths) == count, "fewer or more sections than announced"
            table = b"".join(index)
            fixed = START.pack(form.magic, version, len(header), len(table))
            file.seek(0)
            file.write(fixed + digest_of(fixed, header, table) + header + table)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return lengths


def read_container(path: Path, form: Form = TOKENS) -> Container:
    """Open a file and check its header and index.

    Raises InputError for a file that is missing, not of this form, or newer than this version of tokexp reads;
    DamagedError for one that is not as written.
    """
    front = read_front(path, form)
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"the {form.name} {path} cannot be read ({reason}): check the path") from error
    last = front.sections[-1] if front.sections else None
    if last is not None and last.offset + last.length != len(data):
        raise cut_off(path)
    return Container(path, data, front)
