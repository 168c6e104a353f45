"""Every image at a lower resolution: SeiT's baseline "Adjusting image resolution" (Park et al. 2023, table B.5).

Small images are stored without loss (PNG), or as JPEG where the spec gives a quality; the paper does not say in which
format its own were. They are brought back to the data's size when they are read, as any image is.
"""

from collections.abc import Callable
from functools import partial

from PIL import Image

from tokexp.spec.reducing import ResizeReduce
from tokexp.spec.storage import StorageSpec
from tokexp.storage.reducing.base import (
    Reduced,
    Reduction,
    Training,
    byte_limit,
    jpeg,
    kept_positions,
    measured,
    png,
    stored,
)
from tokexp.storage.reducing.solving import largest_fitting

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS, "box": Image.Resampling.BOX,
}  # fmt: skip


class Resolution(Reduction):
    """All kept images made smaller by one factor, or to one shorter side; none is enlarged."""

    def __init__(self, spec: ResizeReduce) -> None:
        """Take the factor, or the side, or neither for the largest side that fits the budget."""
        self.spec = spec

    def reduce(self, training: Training, storage: StorageSpec) -> Reduced:
        """Return the images at the spec's size, or at the largest that fits, up to the data's."""
        positions, spec = kept_positions(training, storage), self.spec
        if spec.factor is not None:
            encode = self._encoder(training, factor=spec.factor)
            return stored(training, positions, encode, _facts("factor", spec.factor), {"factor": spec.factor})
        side, limit = spec.side, byte_limit(storage, len(training.labels))
        if side is None:
            assert limit is not None, "a size or a budget is checked at validation"
            side = largest_fitting(
                range(1, training.shape[1] + 1),
                lambda tried: measured(
                    training, positions, self._encoder(training, side=tried), _facts("side", tried),
                    f"images of side {tried}",
                ),
                limit,
                "a side of",
            )  # fmt: skip
        encode = self._encoder(training, side=side)
        return stored(training, positions, encode, _facts("side", side), {"side": float(side)})

    def _encoder(
        self, training: Training, factor: float | None = None, side: int | None = None
    ) -> Callable[[int], bytes]:
        return partial(_encoded, training, self.spec, factor, side)


def _encoded(training: Training, spec: ResizeReduce, factor: float | None, side: int | None, position: int) -> bytes:
    image = training.image(position)
    small = image.resize(small_size(image.size, factor, side), _FILTERS[spec.filter])
    return png(small) if spec.quality is None else jpeg(small, spec.quality, "4:2:0")


def small_size(size: tuple[int, int], factor: float | None, side: int | None) -> tuple[int, int]:
    """Return (width, height) of an image by a factor, or with its shorter side at `side`; never above its own."""
    scale = min(1.0, (side or 0) / min(size)) if factor is None else factor
    width, height = (max(1, round(length * scale)) for length in size)
    return width, height


def _facts(name: str, value: float) -> dict[str, float | str]:
    return {"reduce": "resize", name: value}


def build(spec: ResizeReduce) -> Resolution:
    """Return the policy for a spec."""
    return Resolution(spec)
