"""Where the files of a SeiT release lie. Names only.

Per split: `<stem>.data.bin.gz`, `<stem>.index.npy.gz`, and the labels: the one text file whose name begins with the
stem, or `<stem>` with `label` in the place of `token` (`imagenet1k-train-label.txt`), as the release does not fix it.
Source: naver-ai/seit, datasets.py (the token and label files are given there by separate options).
"""

from dataclasses import dataclass
from pathlib import Path

from tokexp.errors import DataError
from tokexp.spec.data import SeitReleaseData


@dataclass(frozen=True)
class ReleasedSplit:
    """The three files of a split."""

    data: Path
    index: Path
    labels: Path


@dataclass(frozen=True)
class Release:
    """The files of both splits, and the codebook."""

    train: ReleasedSplit
    test: ReleasedSplit
    codebook: Path

    def files(self) -> list[Path]:
        """Return all files, in a fixed order."""
        return [
            *(path for part in (self.train, self.test) for path in (part.data, part.index, part.labels)),
            self.codebook,
        ]


def find_release(spec: SeitReleaseData) -> Release:
    """Return the files of a spec. Raises DataError naming the first one that is missing."""
    root = Path(spec.root).expanduser()
    if not root.is_dir():
        raise DataError(
            f"data.root: the folder {str(root)!r} does not exist; give the one with the released token files"
        )
    codebook = _present(root / spec.codebook, "codebook")
    return Release(split_files(root, "train", spec.train), split_files(root, "test", spec.test), codebook)


def split_files(root: Path, field: str, stem: str) -> ReleasedSplit:
    """Return the files of a split with a stem; `field` is for messages. Raises DataError if one is missing."""
    data = _present(root / f"{stem}.data.bin.gz", field)
    index = _present(root / f"{stem}.index.npy.gz", field)
    return ReleasedSplit(data, index, _labels(root, field, stem))


def _labels(root: Path, field: str, stem: str) -> Path:
    named = sorted(path for path in root.glob("*.txt") if path.name.startswith(stem))
    named = named or [path for path in [root / f"{stem.replace('token', 'label')}.txt"] if path.is_file()]
    if len(named) == 1:
        return named[0]
    found = f"found {', '.join(path.name for path in named)}" if named else "found none"
    raise DataError(
        f"data.{field}: the labels must be exactly one text file whose name begins with {stem!r} in {str(root)!r} "
        f"({found}); rename or copy it to {stem}.label.txt"
    )


def _present(path: Path, field: str) -> Path:
    if not path.is_file():
        raise DataError(f"data.{field}: {str(path)!r} does not exist; put the released file there or correct the name")
    return path


def count_images(release: Release) -> dict[str, int]:
    """Return the images of each split: the lines of its labels."""
    parts = {"train": release.train, "test": release.test}
    return {name: sum(1 for line in part.labels.read_text("utf-8", "replace").split("\n") if line.strip())
            for name, part in parts.items()}  # fmt: skip
