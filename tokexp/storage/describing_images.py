"""What the verbs of `tokexp store` say of a store of images: its facts, and what is damaged."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tokexp.errors import DamagedError
from tokexp.sections import IMAGES
from tokexp.storage.container import read_container
from tokexp.storage.image_store import ImageStore

_MARKS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WebP", b"GIF8": "GIF", b"BM": "BMP", b"II*\0": "TIFF"}


def image_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a store of images, JSON-ready: what it holds, how it is encoded, and where its bytes went.

    Reads all images. Raises InputError and DamagedError.
    """
    store = ImageStore.open(path)
    header, lengths, counts = store.header, store.lengths(), np.bincount(store.labels, minlength=store.header.classes)
    bare = {"shape": list(header.shape or ()), "dtype": header.dtype} if header.encoding == "raw" else {}
    return {
        "file": str(path),
        "images": store.num_images,
        "classes": header.classes,
        "images_per_class": [int(counts.min()), int(counts.max())],
        "encoding": header.encoding,
        **bare,
        "formats": _formats(store) if header.encoding == "image" else {},
        "soft_labels": header.soft,
        "smallest_bytes": int(lengths.min(initial=lengths.max(initial=0))),
        "largest_bytes": int(lengths.max(initial=0)),
        "accounting": store.accounting.as_dict(),
        "facts": header.facts,
    }


def verify_images(path: Path) -> list[str]:
    """Return everything that is wrong with a store of images: nothing if it is as written.

    Raises InputError for what is no store of images.
    """
    problems: list[str] = []
    try:
        container = read_container(path, IMAGES)
    except DamagedError as error:
        return [str(error)]
    for number in range(len(container.sections)):
        try:
            container.read(number)
        except DamagedError as error:
            problems.append(str(error))
    if problems:
        return problems
    try:
        ImageStore.open(path).lengths()
    except DamagedError as error:
        return [f"{path}: {error}" if str(path) not in str(error) else str(error)]
    return []


def _formats(store: ImageStore) -> dict[str, int]:
    """Return how many images are files of which format."""
    return dict(Counter(_format(store.item(position)) for position in range(store.num_images)).most_common())


def _format(content: bytes) -> str:
    return next((name for mark, name in _MARKS.items() if content.startswith(mark)), "other")
