"""From the bytes of an image file to pixels of one size and one number of channels, with Pillow.

Rotation by EXIF is applied; palettes, CMYK, 16 bit and alpha are converted (alpha is left out, as torchvision's loader
does); of an animation, the first frame counts. Pillow refuses images of more than 178,956,970 pixels as bombs; those
above LARGE are decoded one at a time, so that threads do not hold several of them.
"""

from contextlib import nullcontext
from threading import Lock
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, ImageOps

from tokexp.data.readability import UnreadableError

Resize = Literal["squash", "crop"]

LARGE = 1 << 24
"""Pixels from which an image waits for its turn to be decoded."""

_LONGEST = 64
"""Sides longer than so many times the shorter one are cut before resizing: a line of pixels would take gigabytes."""

_TURN = Lock()


def decode(file: BinaryIO, name: str, channels: int, size: int, resize: Resize) -> np.ndarray:
    """Return uint8 pixels (channels, size, size). Raises UnreadableError if it cannot be read."""
    return fit(open_image(file, name, channels), size, resize)


def open_image(file: BinaryIO, name: str, channels: int) -> Image.Image:
    """Return an image at its own size, upright, grey or RGB. Raises UnreadableError."""
    try:
        with Image.open(file) as image, _TURN if image.width * image.height > LARGE else nullcontext():
            image.load()
            return _converted(ImageOps.exif_transpose(image), channels)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on bytes that are not what they claim.
        reason = "the file is empty" if file.seek(0, 2) == 0 else str(error).replace(f" {file!r}", "") or repr(error)
        raise UnreadableError(name, reason) from error


def fit(image: Image.Image, size: int, resize: Resize) -> np.ndarray:
    """Return uint8 pixels (C, size, size) of an L or RGB image: bicubic to both sides, or shorter side and centre."""
    width, height = image.size
    if resize == "crop":
        short = min(width, height)
        image = _middle(image, _LONGEST * short)
        width, height = image.size
        width, height = max(size, round(width * size / short)), max(size, round(height * size / short))
    else:
        width, height = size, size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    pixels = np.array(image)[top : top + size, left : left + size]
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _middle(image: Image.Image, most: int) -> Image.Image:
    """Return an image without what is beyond `most` pixels of a side, seen from the middle."""
    width, height = image.size
    if max(width, height) <= most:
        return image
    # What goes is even, so that the middle stays where it is.
    wide, high = (side if side <= most else most - (side - most) % 2 for side in image.size)
    left, top = (width - wide) // 2, (height - high) // 2
    return image.crop((left, top, left + wide, top + high))


def to_channels(image: Image.Image, channels: int) -> Image.Image:
    """Return the image as grey (1 channel) or RGB (3)."""
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _converted(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey, which Pillow would clip at 255 instead of scaling.
        grey = np.clip(np.asarray(image).astype(np.float64) / 257, 0, 255)
        image = Image.fromarray(np.rint(grey).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("its pixels are floating point numbers, whose range is not known")
    elif image.mode in ("P", "PA") and "transparency" in image.info:
        image = image.convert("RGBA")
    return to_channels(image, channels)
