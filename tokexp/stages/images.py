"""The images stage: what a storage policy leaves of the training images, encoded and written once.

Training reads its pixels from the store alone; tests read the images as they are, as with tokens the budget is for
what is trained on. Images are encoded in threads, and nothing but lengths is kept while a parameter is solved for.
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from PIL import Image

from tokexp.data.base import ImageSource
from tokexp.data.decoding import open_image
from tokexp.engine.reporting import Stopped
from tokexp.errors import DataError
from tokexp.registry import implementation
from tokexp.spec.data import GivenTokens
from tokexp.spec.stages import ImagesStage
from tokexp.stages.assembly import image_shape, image_source
from tokexp.stages.base import Stage, StageContext, StageResult
from tokexp.stages.stored_images import TRAIN
from tokexp.storage.image_store import ImageAccounting, write_images
from tokexp.storage.reducing.base import Reduced, Reduction

_PART = 512
"""Images that are encoded between two looks at whether to stop."""


class StoreImages(Stage):
    """Applies `storage.reduce` to the training images."""

    def __init__(self, payload: ImagesStage) -> None:
        """Take the data and the policy."""
        self.payload = payload

    def run(self, context: StageContext) -> StageResult:
        """Write train.images, and kept.json for images of the source; metrics: the accounting and the parameter."""
        payload = self.payload
        if isinstance(payload.data, GivenTokens) or payload.storage.reduce is None:
            raise DataError("there are no images to store: storage.reduce and data with pixels are needed")
        source = image_source(payload.data, context)
        training = TrainingImages(source, image_shape(payload.data), context)
        policy: Reduction = implementation("reducing", payload.storage.reduce.kind)(payload.storage.reduce)
        reduced = training.noted(policy.reduce(training, payload.storage))
        accounting = write_images(context.output / TRAIN, reduced.header, reduced.labels, reduced.items, reduced.soft)
        if reduced.positions is not None:
            (context.output / "kept.json").write_text(json.dumps({"train": reduced.positions.tolist()}))
        return self._result(reduced, accounting, len(training.labels))

    def _result(self, reduced: Reduced, accounting: ImageAccounting, source_images: int) -> StageResult:
        assert self.payload.storage.reduce is not None
        metrics = {"bytes_per_image": accounting.bytes_per_image, "bytes": float(accounting.total), **reduced.parameter}
        facts = {
            "accounting": accounting.as_dict(), "source_images": source_images,
            "raw_bytes_per_image": int(np.prod(image_shape(self.payload.data))),
            "codec": self.payload.storage.reduce.kind, "parameter": reduced.parameter,
        }  # fmt: skip
        return StageResult(metrics, facts)


class TrainingImages:
    """The training images of a source as policies ask for them (see tokexp.storage.reducing.base.Training)."""

    def __init__(self, source: ImageSource, shape: tuple[int, int, int], context: StageContext) -> None:
        """Take the source and what its images are brought to."""
        self.labels, self.classes, self.shape = source.labels("train"), source.classes, shape
        self.ids: Sequence[str] = source.sample_ids("train")
        self._source, self._context = source, context

    def file(self, position: int) -> bytes | None:
        """Return the bytes of an image's file, None where there is none."""
        return self._source.file("train", position)

    def image(self, position: int) -> Image.Image:
        """Return an image at the size of its file, else at the data's, with 8 bits for each channel."""
        content = self.file(position)
        if content is not None:
            return open_image(io.BytesIO(content), self.ids[position], self.shape[0])
        pixels = np.rint(255 * self._source.read("train", [position])[0].numpy()).astype(np.uint8)
        return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))

    def lengths(self, encode: Callable[[int], bytes], positions: np.ndarray, doing: str) -> np.ndarray:
        """Return the length (n,) of what `encode` makes of every position. Raises Stopped if that was asked for."""
        threads, found = self._context.job.threads, np.empty(len(positions), np.int64)
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(positions), _PART):
                part = positions[start : start + _PART].tolist()
                found[start : start + len(part)] = list(pool.map(lambda position: len(encode(position)), part))
                self._note(start + len(part), len(positions), doing)
        return found

    def noted(self, reduced: Reduced) -> Reduced:
        """Return the same with progress noted while its images are written."""
        return replace(reduced, items=self._watched(reduced.items, reduced.header.images))

    def _watched(self, items: Iterator[bytes], count: int) -> Iterator[bytes]:
        for number, item in enumerate(items):
            if number % _PART == 0:
                self._note(number, count, "images stored")
            yield item
        self._note(count, count, "images stored")

    def _note(self, done: int, total: int, doing: str) -> None:
        self._context.report.progress(done, total, doing)
        if self._context.stop():
            raise Stopped(f"storing was asked to stop: {done} of {total} {doing}")


def build(payload: ImagesStage) -> StoreImages:
    """Return the stage for a payload."""
    return StoreImages(payload)
