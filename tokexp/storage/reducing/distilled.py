"""A distilled set, made elsewhere, in place of the training images (dataset distillation, Wang et al. 2018).

Its images stand for no image of the source; soft labels, where it has them, are what its classes are learned from, and
count as everything else that is stored.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tokexp.errors import DataError
from tokexp.spec.reducing import DistilledReduce
from tokexp.spec.storage import StorageSpec
from tokexp.storage.image_store import ImageHeader
from tokexp.storage.reducing.base import Reduced, Reduction, Training, png

_NAMES = ("images", "labels", "soft_labels")


class Distilled(Reduction):
    """The images of a file, stored as the spec says."""

    def __init__(self, spec: DistilledReduce) -> None:
        """Take the file and the precision."""
        self.spec = spec

    def reduce(self, training: Training, storage: StorageSpec) -> Reduced:
        """Return all images of the file. Raises DataError naming the array that does not fit the data."""
        del storage
        spec, path = self.spec, Path(self.spec.file).expanduser()
        arrays = _read(path)
        images = _images(path, arrays, training.shape)
        soft = None if spec.soft_labels == "none" else _soft_labels(path, arrays, len(images), len(training.classes))
        labels = _labels(path, arrays, len(images), len(training.classes))
        raw = None if spec.pixels == "uint8" else spec.pixels
        header = ImageHeader(
            images=len(images), classes=len(training.classes), encoding="image" if raw is None else "raw",
            shape=None if raw is None else training.shape, dtype=raw,
            soft=None if soft is None or spec.soft_labels == "none" else spec.soft_labels,
            facts={"reduce": "distilled"},
        )  # fmt: skip
        return Reduced(header, labels, _items(images, raw), soft=soft)


def _items(images: np.ndarray, raw: str | None) -> Iterator[bytes]:
    for image in images:
        if raw is not None:
            yield _unit(image).astype(np.dtype(raw).newbyteorder("<")).tobytes()
            continue
        pixels = image if image.dtype == np.uint8 else np.rint(255 * image.astype(np.float64)).astype(np.uint8)
        yield png(Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))))


def _unit(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) / 255 if image.dtype == np.uint8 else image


def _read(path: Path) -> Mapping[str, np.ndarray]:
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.numpy import load_file

            found: Mapping[str, np.ndarray] = load_file(path)
        elif path.suffix.lower() == ".npz":
            if path.exists() and not zipfile.is_zipfile(path):
                raise DataError(f"storage.reduce.file: {path} cannot be read: it is no .npz file")
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in _NAMES if name in arrays}
        else:
            raise DataError(f"storage.reduce.file: {path}: a distilled set is a .npz or .safetensors file")
    except DataError:
        raise
    except Exception as error:  # What readers raise on foreign bytes has no common base.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"storage.reduce.file: {path} cannot be read: {reason}") from error
    return found


def _images(path: Path, arrays: Mapping[str, np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    if "images" not in arrays:
        raise DataError(f"{path}: no array `images`; pixels (N, channels, height, width) are needed")
    images = arrays["images"]
    if images.ndim != 4 or not len(images) or images.shape[1:] != shape:
        raise DataError(f"{path}: images: {images.shape} given; the data block's images are (N, {str(shape)[1:]}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(f"{path}: images: {images.dtype} given; uint8 or floats in [0, 1] are needed")
    if images.dtype.kind == "f" and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        raise DataError(
            f"{path}: images: values from {float(images.min()):.4g} to {float(images.max()):.4g}; "
            "floats are pixels in [0, 1], before any normalisation"
        )
    return images


def _labels(path: Path, arrays: Mapping[str, np.ndarray], count: int, classes: int) -> np.ndarray:
    """Return the classes (N,): those that are given, else the largest of the soft labels."""
    if "labels" not in arrays:
        soft = _soft_labels(path, arrays, count, classes)
        if soft is None:
            raise DataError(f"{path}: neither `labels` (N,) nor `soft_labels` (N, classes)")
        found: np.ndarray = soft.argmax(axis=1).astype(np.int64)
        return found
    labels = arrays["labels"]
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise DataError(f"{path}: labels: {labels.dtype} {labels.shape} given; {count} whole numbers are needed")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise DataError(f"{path}: labels: from {labels.min()} to {labels.max()}; the data have {classes} classes")
    return labels.astype(np.int64)


def _soft_labels(path: Path, arrays: Mapping[str, np.ndarray], count: int, classes: int) -> np.ndarray | None:
    """Return the soft labels (N, classes) if there are any: shares of 1, all at least 0."""
    if "soft_labels" not in arrays:
        return None
    soft = arrays["soft_labels"]
    if soft.shape != (count, classes) or soft.dtype.kind != "f":
        raise DataError(f"{path}: soft_labels: {soft.dtype} {soft.shape} given; floats ({count}, {classes}) are needed")
    # 16-bit sums of many classes are off by more than rounding of a single one.
    sums = soft.astype(np.float64).sum(axis=1)
    if not (float(soft.min()) >= 0 and bool((np.abs(sums - 1) < 0.01).all())):
        raise DataError(f"{path}: soft_labels: each row must be probabilities (at least 0, their sum 1); softmax them")
    return soft


def build(spec: DistilledReduce) -> Distilled:
    """Return the policy for a spec."""
    return Distilled(spec)
