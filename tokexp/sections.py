r"""Files of sections behind a header, each with its digest: what one says of itself, read with nothing but Python.

`tokexp.storage.container` writes such files and reads their sections; plans and checks need the first bytes alone.
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

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

from tokexp.errors import DamagedError, InputError

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


TOKENS = Form(b"\x89TOKEXP\n", "token store", ("its labels", "its codebook"), "its tokens", "train.tokens")
IMAGES = Form(b"\x89TOKIMG\n", "store of images", ("its labels", "its soft labels"), "its images", "train.images")

START = struct.Struct("<8sIIQ")
ENTRY = struct.Struct("<Q16s")
DIGEST = 16
FIXED = START.size + DIGEST


@dataclass(frozen=True)
class Section:
    """A stretch of the file: where it begins, its length and its digest."""

    offset: int
    length: int
    digest: bytes


@dataclass(frozen=True)
class Front:
    """What stands before the sections, checked: the form with the words of its version, the header's text, the index.

    Equal files have equal fronts and, as the index holds the sections' digests, equal fronts equal files.
    """

    form: Form
    header: bytes
    sections: tuple[Section, ...]

    def content_key(self) -> str:
        """Return 32 hex digits that equal files share and no others: a digest of header and sections' digests."""
        described = blake2b(self.header, digest_size=DIGEST)
        for section in self.sections:
            described.update(section.digest)
        return described.hexdigest()


def digest_of(*parts: bytes | memoryview) -> bytes:
    """Return the digest of bytes, one part after another."""
    digest = blake2b(digest_size=DIGEST)
    for part in parts:
        digest.update(part)
    return digest.digest()


def form_of(path: Path) -> Form | None:
    """Return which form a file has by its first bytes; None for any other file, and for none at all."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(TOKENS.magic))
    except OSError:
        return None
    return next((form for form in (TOKENS, IMAGES) if form.magic == magic), None)


def read_front(path: Path, form: Form = TOKENS) -> Front:
    """Read and check what stands before the sections, and the file's length; the sections are not read.

    Raises InputError for a file that is missing, not of this form, or newer than this version of tokexp reads;
    DamagedError for one that is not as written.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            fixed, digest = file.read(START.size), file.read(DIGEST)
            if fixed[: len(form.magic)] != form.magic:
                raise _other_form(path, form)
            if size < FIXED:
                raise cut_off(path)
            _, version, header_length, index_length = START.unpack(fixed)
            if FIXED + header_length + index_length > size or index_length % ENTRY.size:
                raise cut_off(path)
            header, index = file.read(header_length), file.read(index_length)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"the {form.name} {path} cannot be read ({reason}): check the path") from error
    if digest_of(fixed, header, index) != digest:
        raise DamagedError(f"{path} is damaged (header): restore it, or make it again")
    if version > VERSION:
        raise InputError(f"{path} has format version {version}, this tokexp reads up to {VERSION}: update tokexp")
    start = FIXED + header_length + index_length
    sections = tuple(_sections(index, start))
    if (sections[-1].offset + sections[-1].length if sections else start) != size:
        raise cut_off(path)
    if version > FIRST_VERSION:
        form = replace(form, parts=(*form.parts, "its codec's tables"))
    return Front(form, header, sections)


def cut_off(path: Path) -> DamagedError:
    """Return the error for a file that is shorter or longer than what was written."""
    return DamagedError(f"{path} does not have the length it was written with: restore it, or make it again")


def _other_form(path: Path, form: Form) -> InputError:
    found = form_of(path)
    if found is None:
        return InputError(f"{path} is not a {form.name}: name a file that `tokexp` wrote ({form.example})")
    return InputError(f"{path} is not a {form.name}: it is a {found.name}; name one that is ({form.example})")


def _sections(index: bytes, offset: int) -> Iterator[Section]:
    for length, digest in ENTRY.iter_unpack(index):
        yield Section(offset, length, digest)
        offset += length
