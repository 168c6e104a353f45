"""What a torch file's pickles may do, found out before anything is built of them.

A pickle of a few bytes can ask for a place in the memo that takes gigabytes, nest a dictionary's key so deep that
hashing it ends the process, or hold itself so often that this takes years; an archive can unpack to a thousand times
its size. torch writes nothing of that. Operations are followed by what they do to the stack, no object being made.
Own design; operations: Python's documentation of `pickletools`.
"""

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from tokexp.errors import DataError

_REFUSED: Final = frozenset((
    "INT", "LONG", "FLOAT", "STRING", "UNICODE", "GET", "PUT", "PERSID", "INST", "OBJ",
    "EXT1", "EXT2", "EXT4", "BYTEARRAY8", "NEXT_BUFFER", "READONLY_BUFFER",
))  # fmt: skip
"""Operations as text, of old kinds of objects, of registered extensions, and of buffers."""

_NEWEST: Final = 5
"""The protocol whose operations are known here."""

_PUTS: Final = frozenset(("BINPUT", "LONG_BINPUT"))
_GETS: Final = frozenset(("BINGET", "LONG_BINGET"))
_TUPLES: Final = frozenset(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET"))
_PASSING: Final = frozenset(("DUP", "MEMOIZE", "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BINPERSID"))
"""Operations whose result may be, or hold, a tuple that they are given."""

_MOST_PARTS: Final = 1 << 14
"""Most values in a tuple, those in the tuples within it counted as often as they occur: what hashing it looks at."""

_SPARE_PLACES: Final = 1024
_PICKLES: Final = 5
"""Of torch's older layout: three that say what it is, the content, and the order of the storages."""

_MARK: Final = -1


def require_bounded(file: Path) -> None:
    """Raise DataError for a torch file that would take far more memory or time than its size asks for.

    Files that are no torch files at all may pass; damaged ones may be refused here.
    """
    try:
        if zipfile.is_zipfile(file):
            _check_archive(file)
            return
        with file.open("rb") as stream:
            for _ in range(_PICKLES):
                follow(stream)
    except DataError as error:
        raise DataError(f"{str(file)!r}: {error}") from error
    except Exception as error:  # Bytes that are no pickle raise nearly anything.
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DataError(f"{str(file)!r} cannot be read as a torch file ({reason}); fetch it again") from error


def _check_archive(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
        roots = tuple(entry.filename.removesuffix("data.pkl") + "data/" for entry in entries)
        content = [entry for entry in archive.infolist() if entry in entries or entry.filename.startswith(roots)]
        unpacked = sum(entry.file_size for entry in content)
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in content) or unpacked > file.stat().st_size:
            raise DataError("an archive that is compressed, which torch never does; save it again with torch.save")
        for entry in entries:
            with archive.open(entry) as stream:
                follow(stream)  # type: ignore[arg-type]


def follow(stream: BinaryIO) -> None:
    """Follow one pickle to its end, and leave the stream behind it.

    Raises DataError for what torch never writes, ValueError or IndexError for what is no pickle.
    """
    stack: list[int] = []
    memo: dict[int, int] = {}
    for operation, argument, _ in pickletools.genops(stream):
        name, place = operation.name, argument if isinstance(argument, int) else 0
        if name in _REFUSED or operation.proto > _NEWEST:
            raise DataError(f"it has the operation {name}, which no file of torch needs; it is not loaded")
        if name in _PUTS:
            if place > len(memo) + _SPARE_PLACES:
                raise DataError("it asks for far more memory than it fills; it is not loaded")
            memo[place] = stack[-1]
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _GETS:
            stack.append(memo[place])
        else:
            taken = list(_taken(stack, operation))
            parts = sum(taken) if name in _PASSING else 1 + sum(taken) if name in _TUPLES else 1
            if parts > _MOST_PARTS:
                raise DataError("it has a tuple of more parts than any file of torch; it is not loaded")
            stack.extend([parts] * len(operation.stack_after))
            if name == "MEMOIZE":
                memo[len(memo)] = parts


def _taken(stack: list[int], operation: pickletools.OpcodeInfo) -> Iterator[int]:
    """Yield the parts of the values that an operation takes from the stack, and take them."""
    before = operation.stack_before
    below = len(before)
    if pickletools.markobject in before:
        while (parts := stack.pop()) != _MARK:
            yield parts
        below = before.index(pickletools.markobject)
    for _ in range(below):
        parts = stack.pop()
        yield max(parts, 0)
