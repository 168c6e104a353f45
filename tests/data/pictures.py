"""Small real image files, trees of them, and zips of trees."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cat")


def picture(number: int, size: tuple[int, int] = (10, 8)) -> Image.Image:
    """An RGB image of width and height `size`, different for every number."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def tree(root: Path, folders: dict[str, int], suffix: str = ".png") -> Path:
    """Write so many images into each folder below `root`."""
    number = 0
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for place in range(count):
            picture(number).save(root / folder / f"{place:03d}{suffix}")
            number += 1
    return root


def split_tree(root: Path, train: str = "train", test: str = "test") -> Path:
    """Three classes, four training and two test images each."""
    return tree(root, {f"{train}/{c}": 4 for c in CLASSES} | {f"{test}/{c}": 2 for c in CLASSES})


def zipped(root: Path, target: Path, top: str = "") -> Path:
    """Write a zip of a tree, in an order that is not sorted, below a folder `top`."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.rglob("*"), reverse=True):
            if path.is_file():
                archive.write(path, f"{top}{path.relative_to(root).as_posix()}")
    return target
