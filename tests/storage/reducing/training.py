"""Training images in memory, as policies ask for them: smooth real-valued pictures with some noise."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tokexp.spec.storage import StorageSpec
from tokexp.storage.image_store import ImageStore, write_images
from tokexp.storage.reducing.base import Reduced, Reduction

CLASSES = ("ant", "bee", "cat")


class Pictures:
    """`count` images of 24 x 16 pixels (the data's size is 16), classes in turn; files are PNGs if `as_files`."""

    def __init__(self, count: int = 30, channels: int = 3, as_files: bool = True) -> None:
        self.labels = np.arange(count) % len(CLASSES)
        self.classes = CLASSES
        self.ids = [f"{CLASSES[place % 3]}/{place:03d}.png" for place in range(count)]
        self.shape = (channels, 16, 16)
        self._images = [_picture(place, channels) for place in range(count)]
        self._as_files = as_files

    def file(self, position: int) -> bytes | None:
        return _png(self._images[position]) if self._as_files else None

    def image(self, position: int) -> Image.Image:
        return self._images[position]

    def lengths(self, encode: Callable[[int], bytes], positions: np.ndarray, doing: str) -> np.ndarray:
        return np.array([len(encode(position)) for position in positions.tolist()], np.int64)


def _picture(number: int, channels: int) -> Image.Image:
    generator = np.random.default_rng(number)
    down, across = np.mgrid[0:16, 0:24] / 24
    phases = generator.uniform(0, 6, channels)
    waves = np.stack([np.sin(5 * down + 7 * across * (number % 5) + phase) for phase in phases], -1)
    noisy = 128 + 90 * waves + generator.normal(0, 6, waves.shape)
    pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def stored(reduced: Reduced, path: Path) -> ImageStore:
    """Write what a policy returned, and open it."""
    write_images(path, reduced.header, reduced.labels, reduced.items, reduced.soft)
    return ImageStore.open(path)


def size_of(policy: Reduction, training: Pictures, path: Path, storage: StorageSpec | None = None) -> int:
    """The size in bytes of the file that a policy comes to."""
    stored(policy.reduce(training, storage or StorageSpec()), path)
    return path.stat().st_size


def opened(content: bytes) -> Image.Image:
    """A stored image, decoded by Pillow."""
    image = Image.open(io.BytesIO(content))
    image.load()
    return image
