"""Which images a folder or a zip holds, and how they divide into splits and classes. Names and sizes only.

Everything here works on a flat list of files, so a tree and a zip of it are the same thing. Layouts that are known:

- `train/<class>/...` beside one of `test`, `testing`, `val`, `valid`, `validation` (found in this order, whatever the
  case; a validation folder is left alone if there is a test folder); `training` works as `train` does;
- `train/<class>/...` alone, and `<class>/...` without split folders: the test split is cut by the spec's fraction;
- any of them below folders that hold nothing else, as in a zip with one folder at its top;
- with `labels: none`, any tree: all images are training images of one class.
"""

import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tokexp.errors import DataError
from tokexp.spec.data import ImageFolderData

FORMATS = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)  # fmt: skip
"""Endings of the files that are taken for images; all others are ignored."""

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation")

UNLABELLED = "image"
"""The class of all images of a folder without labels."""

_IGNORED = frozenset({"__MACOSX", "Thumbs.db", "thumbs.db", "desktop.ini"})


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image: `name` to open it by (below the root, or in the zip), `path` below the folder with the splits.

    size: bytes, uncompressed. crc: the zip's checksum, None in a tree.
    """

    name: str
    path: str
    size: int
    crc: int | None = None


@dataclass(frozen=True)
class Layout:
    """The images of a spec: `train` and `test` files with their labels; `test` is None if it is to be cut from train.

    Files are in the order of their paths (by code points); classes are the sorted folder names of the training split.
    """

    root: Path
    zipped: bool
    classes: tuple[str, ...]
    train: list[tuple[ImageFile, int]]
    test: list[tuple[ImageFile, int]] | None


def find_layout(spec: ImageFolderData) -> Layout:
    """Return what the root of a spec holds. Raises DataError, with what to do, where that is not a labelled set."""
    root = Path(spec.root).expanduser()
    if not root.exists():
        raise DataError(
            f"data.root: {str(root)!r} does not exist (looked in {str(Path.cwd())!r}); give the folder or zip that "
            "holds one folder of images per class"
        )
    files = _files_in(root)
    if not files:
        endings = ", ".join(sorted(ending[1:] for ending in FORMATS))
        raise DataError(f"data.root: {str(root)!r} holds no images; files must end in one of {endings}")
    if spec.labels == "none":
        return Layout(root, not root.is_dir(), (UNLABELLED,), [(file, 0) for file in files], None)
    train_files, test_files = _split(root, files, spec)
    classes = sorted({_class_of(root, *pair) for pair in train_files})
    label_of = {name: label for label, name in enumerate(classes)}
    return Layout(
        root, not root.is_dir(), tuple(classes), _labelled(root, train_files, label_of),
        None if test_files is None else _labelled(root, test_files, label_of),
    )  # fmt: skip


_Below = list[tuple[ImageFile, str]]
"""Files with their path below the split's folder: `<class>/.../<file>`."""


def _files_in(root: Path) -> list[ImageFile]:
    try:
        files = list(_walk(root)) if root.is_dir() else _members(root)
    except OSError as error:
        raise DataError(f"data.root: {str(root)!r} cannot be listed: {error}") from error
    return sorted(files, key=lambda file: file.path)


def _walk(root: Path) -> Iterator[ImageFile]:
    """Yield the images below a folder; links are followed, a folder within itself is entered once."""
    pending: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(str(root), "", frozenset())]
    while pending:
        folder, below, above = pending.pop()
        facts = os.stat(folder)  # noqa: PTH116 (a string per folder, not a Path per file: sets have millions)
        here = (facts.st_dev, facts.st_ino)
        if here in above:
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_ignored(entry.name):
                    continue
                path = f"{below}{entry.name}"
                if _is_image(entry.name):
                    found = entry.stat() if _exists(entry) else None
                    if found is None or stat.S_ISREG(found.st_mode):
                        yield ImageFile(path, path, found.st_size if found else 0)
                elif entry.is_dir():
                    pending.append((entry.path, f"{path}/", above | {here}))


def _exists(entry: "os.DirEntry[str]") -> bool:
    return not entry.is_symlink() or Path(entry.path).exists()


def _members(root: Path) -> list[ImageFile]:
    try:
        with zipfile.ZipFile(root) as archive:
            infos = {info.filename: info for info in archive.infolist() if not info.is_dir()}
    except zipfile.BadZipFile as error:
        raise DataError(
            f"data.root: {str(root)!r} is neither a folder nor a zip that can be read ({error}); unpack it if it is "
            "another kind of archive"
        ) from error
    files = []
    for name, info in infos.items():
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        if parts and _is_image(parts[-1]) and not any(map(_is_ignored, parts)):
            files.append(ImageFile(name, "/".join(parts), info.file_size, info.CRC))
    return files


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in FORMATS  # noqa: PTH122 (called per file of sets with millions)


def _split(root: Path, files: list[ImageFile], spec: ImageFolderData) -> tuple[_Below, _Below | None]:
    """Return the files of train and test with their paths below the split's folder."""
    if spec.train is None:
        files = _unwrapped(files, _clean(spec.test))
    folders = _class_folders(files)
    train = _named(root, files, "train", spec.train) if spec.train is not None else _first(folders, "", TRAIN_NAMES)
    if train is None:
        if spec.test is not None:
            raise DataError(
                f"data.test: {spec.test!r} has no training folder beside it in {str(root)!r}; name it by data.train"
            )
        return [(file, file.path) for file in files], None
    if spec.test is not None:
        test: str | None = _named(root, files, "test", spec.test)
    else:
        test = _first(folders | _flat_folders(files), _parent(train), TEST_NAMES, but=train)
    return _below(files, train), None if test is None else _below(files, test)


def _unwrapped(files: list[ImageFile], test: str) -> list[ImageFile]:
    """Leave out leading folders that hold everything, but no split folder and no class folder."""
    while True:
        top = files[0].path.partition("/")[0]
        inside = f"{top}/"
        wraps = all(file.path.startswith(inside) for file in files) and any(f.path.count("/") > 1 for f in files)
        if not wraps or top.lower() in TRAIN_NAMES + TEST_NAMES or f"{test}/".startswith(inside):
            return files
        files = [ImageFile(file.name, file.path[len(inside) :], file.size, file.crc) for file in files]


def _class_folders(files: list[ImageFile]) -> set[str]:
    """Return the folders that have folders of images in them: those that can be splits."""
    parents = {file.path.rpartition("/")[0] for file in files}
    return {str(above) for parent in parents if parent for above in PurePosixPath(parent).parents}


def _flat_folders(files: list[ImageFile]) -> set[str]:
    return {file.path.rpartition("/")[0] for file in files}


def _first(folders: set[str], parent: str, names: tuple[str, ...], but: str = "") -> str | None:
    """Return the folder in `parent` whose name comes first in `names`, whatever its case."""
    inside: dict[str, str] = {}
    for folder in sorted(folders):
        above, _, last = folder.rpartition("/")
        if above == parent and folder != but:
            inside.setdefault(last.lower(), folder)
    return next((inside[name] for name in names if name in inside), None)


def _named(root: Path, files: list[ImageFile], field: str, given: str) -> str:
    """Return the folder that the spec names: below the root, or below what wraps everything."""
    wanted = _clean(given)
    for candidate in (wanted, *(f"{top}/{wanted}" for top in sorted({f.path.partition("/")[0] for f in files}))):
        if any(file.path.startswith(f"{candidate}/") for file in files):
            return candidate
    there = sorted({file.path.partition("/")[0] for file in files if "/" in file.path})[:10]
    raise DataError(
        f"data.{field}: {str(root)!r} has no folder {given!r} with images; folders there: {', '.join(there) or 'none'}"
    )


def _clean(given: str | None) -> str:
    return "/".join(part for part in (given or "").replace("\\", "/").split("/") if part not in ("", "."))


def _parent(folder: str) -> str:
    return folder.rpartition("/")[0]


def _below(files: list[ImageFile], folder: str) -> _Below:
    inside = f"{folder}/"
    return [(file, file.path[len(inside) :]) for file in files if file.path.startswith(inside)]


def _labelled(root: Path, files: _Below, label_of: dict[str, int]) -> list[tuple[ImageFile, int]]:
    labelled = []
    for file, path in files:
        name = _class_of(root, file, path)
        if name not in label_of:
            raise DataError(
                f"{str(root / file.path)!r}: the class {name!r} of the test split is not in the training split "
                f"(which has {len(label_of)} classes); remove it, or name the right folders by data.train and data.test"
            )
        labelled.append((file, label_of[name]))
    return labelled


def _class_of(root: Path, file: ImageFile, path: str) -> str:
    name, found, _ = path.partition("/")
    if not found:
        raise DataError(
            f"{str(root / file.path)!r}: this image lies in no class folder; images must be in one folder per class "
            "(to leave out a test folder without classes, set data.root to the training folder)"
        )
    return name
