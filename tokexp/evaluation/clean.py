"""Untouched images: the accuracy that papers print (SeiT++, table 2)."""

from tokexp.evaluation.base import PixelChange
from tokexp.spec.evaluation import Clean


def build(spec: Clean, image_shape: tuple[int, int, int]) -> PixelChange | None:
    """Return None: nothing is changed, so stored tokens can be used as they are."""
    del spec, image_shape
    return None
