"""The files that a selection reads: a score for every image, or the images of every class. Errors say file and line.

Text has one image per line and two fields, separated by a comma or a tab; empty lines and lines that begin with `#`
are skipped. Scores may also come as .npz with `scores` (N,) in the order of the training images, and `labels` (N,)
where it has them, as the C-scores of CIFAR are published (Jiang et al. 2021).
"""

import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tokexp.errors import DataError

_MOST_NAMED = 3


def read_scores(file: str, ids: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Return a score (N,) for every training image. Raises DataError where one is missing, double, or no number."""
    path = Path(file).expanduser()
    if path.suffix.lower() == ".npz":
        return _from_arrays(path, labels)
    place, scores = {name: number for number, name in enumerate(ids)}, np.full(len(ids), np.nan)
    for line, (name, text) in _rows(path, "id,score"):
        position = _position(path, line, name, place)
        if not math.isnan(scores[position]):
            raise DataError(f"{path}:{line}: {name!r} has a score already; give one for each image")
        scores[position] = _number(path, line, text)
    missing = np.flatnonzero(np.isnan(scores))
    if len(missing):
        some = ", ".join(repr(ids[position]) for position in missing[:_MOST_NAMED].tolist())
        raise DataError(f"{path}: {len(missing)} of {len(ids)} training images have no score, such as {some}")
    return scores


def read_lists(file: str, ids: Sequence[str], labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return the positions (n,) of the images that a file names, in its order. Raises DataError with the line."""
    path = Path(file).expanduser()
    place, number = {name: at for at, name in enumerate(ids)}, {name: at for at, name in enumerate(classes)}
    found: dict[int, int] = {}
    for line, (word, name) in _rows(path, "class,id"):
        if word not in number:
            raise DataError(f"{path}:{line}: there is no class {word!r}; there are {', '.join(classes[:8])}")
        position = _position(path, line, name, place)
        own = classes[int(labels[position])]
        if own != word:
            raise DataError(f"{path}:{line}: {name!r} is of the class {own!r}, not {word!r}")
        if position in found:
            raise DataError(f"{path}:{line}: {name!r} stands in line {found[position]} already")
        found[position] = line
    if not found:
        raise DataError(f"{path} names no image; write lines of `class,id`")
    return np.fromiter(found, np.int64, len(found))


def _rows(path: Path, form: str) -> Iterator[tuple[int, tuple[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise DataError(f"storage.reduce.file: {path} cannot be read: {reason}") from error
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip() or content.lstrip().startswith("#"):
            continue
        # An id may hold a comma; the other field may not: the score is behind the last, the class before the first.
        comma = "\t" if "\t" in content else ","
        fields = content.rsplit(comma, 1) if form == "id,score" else content.split(comma, 1)
        if len(fields) != 2:
            raise DataError(f"{path}:{line}: {content.strip()!r} has one field; `{form}` is needed")
        yield line, (fields[0].strip(), fields[1].strip())


def _position(path: Path, line: int, name: str, place: dict[str, int]) -> int:
    if name not in place:
        example = next(iter(place), "")
        raise DataError(f"{path}:{line}: {name!r} is no training image; they are named like {example!r}")
    return place[name]


def _number(path: Path, line: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}:{line}: {text!r} given as a score; a finite number is needed")
    return value


def _from_arrays(path: Path, labels: np.ndarray) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in ("scores", "labels") if name in arrays}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"storage.reduce.file: {path} cannot be read as .npz: {error}") from error
    if "scores" not in found:
        raise DataError(f"{path}: no array `scores`; one score for each training image is needed")
    scores = found["scores"]
    if scores.shape != labels.shape or scores.dtype.kind not in "fiu":
        raise DataError(f"{path}: scores: {scores.dtype} {scores.shape} given; {len(labels)} numbers are needed")
    numbers: np.ndarray = scores.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise DataError(f"{path}: scores: number {int(np.flatnonzero(~np.isfinite(numbers))[0])} is not finite")
    if "labels" in found and not np.array_equal(found["labels"], labels):
        raise DataError(f"{path}: labels: not those of the training images, so the scores are of another order or set")
    return numbers
