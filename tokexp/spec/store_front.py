"""What a token store says of itself, for plans and checks: its header alone is read, by nothing but Python."""

import json
from dataclasses import dataclass
from pathlib import Path

from tokexp.errors import TokexpError
from tokexp.sections import read_front
from tokexp.spec.file_memory import FileMemory


@dataclass(frozen=True)
class TokenShape:
    """Sizes of stored tokens as a model reads them: the grid (rows, columns), codes, their width, known classes.

    coefficients: how many numbers are stored for a place where these are levels of coefficients (a mean, as colour may
    have fewer places); 0 where they are tokens of a codebook.
    """

    grid: tuple[int, int]
    codes: int
    width: int
    classes: int | None = None
    coefficients: float = 0.0


@dataclass(frozen=True)
class StoreFront:
    """A store's sizes, its number of images, and its content key: 32 hex digits that equal stores alone share."""

    shape: TokenShape
    images: int
    content: str


def store_front(file: str) -> StoreFront | None:
    """Return what a token store says of itself; None for a file that is not there, no store, or damaged there.

    Those who use the tokens say what is wrong; checks that need sizes are left out until the file is there.
    """
    try:
        return _FRONTS.recall(file, lambda: (_read(file), [file]))
    except (TokexpError, KeyError, TypeError, ValueError, ArithmeticError):
        return None


_FRONTS = FileMemory[StoreFront](most=64)


def _read(file: str) -> StoreFront:
    front = read_front(Path(file).expanduser())
    said = json.loads(front.header)
    (rows, columns), width, each = said["grid"], int(said["width"]), 0.0
    parts = said.get("facts", {}).get("dct")
    if isinstance(parts, dict):  # levels of coefficients: their maps lie one below the other, colour in pairs if halved
        width = parts["luma"] + 2 * parts["chroma"]
        each = parts["luma"] + parts["chroma"] / 2 if parts["half"] else float(width)
        rows = round(rows / each)
    shape = TokenShape((int(rows), int(columns)), int(said["codes"]), width, int(said["classes"]), each)
    return StoreFront(shape, int(said["images"]), front.content_key())
