"""Batches from data that is resident on the device: integers gathered by one index, no work per sample in Python.

The whole token set of ImageNet-1k is 2.6 GB as 16-bit integers; smaller sets are smaller. Pixels stay resident while
they fit and are read per batch otherwise.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tokexp.data.base import Batch, ImageSource

RESIDENT_BYTES = 4 * 10**9
"""Pixels up to this size are kept as float32 on the device."""

FAR_BYTES = 1 << 25
"""Tokens of this size and more lie far from the processor, in memory: there rows are asked for ahead. For less, the
third of a second that it takes to load the compiled loop is more than it saves."""

_CHUNK = 1024


class Feed(ABC):
    """Gives the batch at any positions of one training (or test) set."""

    num_images: int
    num_classes: int
    labels: Tensor
    """Classes (N,) int64 of all samples."""

    @abstractmethod
    def batch(self, positions: Tensor) -> Batch:
        """Return the samples at positions (B,) int64, which may be on any device."""


class PartFeed(Feed):
    """Some samples of another feed, numbered anew; nothing is copied."""

    def __init__(self, whole: Feed, positions: Tensor) -> None:
        """Take the samples at positions (n,) int64 of `whole`, in their order."""
        self._whole, self._positions = whole, positions.to(whole.labels.device)
        self.num_images, self.num_classes = len(positions), whole.num_classes
        self.labels = whole.labels.index_select(0, self._positions)

    def batch(self, positions: Tensor) -> Batch:
        """Return the samples at positions of this part."""
        return self._whole.batch(self._positions.index_select(0, positions.to(self._positions.device)))


class TokenFeed(Feed):
    """Stored tokens (N, rows, columns), resident as 16-bit integers."""

    def __init__(
        self, indices: np.ndarray, labels: np.ndarray, num_classes: int, device: torch.device,
        unfold: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        """Take uint16 indices and int64 labels, copied to the device once, and what brings a batch out of its grid."""
        self.num_images, self.num_classes, self._unfold = len(labels), num_classes, unfold
        plain = np.ascontiguousarray(indices, dtype=np.uint16)
        # torch has no gather for uint16: the bits are kept as int16 and widened after the gather.
        self._tokens = torch.from_numpy(plain.view(np.int16)).to(device)
        self.labels = torch.from_numpy(np.asarray(labels, dtype=np.int64)).to(device)
        self._wraps = bool(self._tokens.numel()) and int(self._tokens.min()) < 0
        far = self._tokens.device.type == "cpu" and plain.nbytes >= FAR_BYTES
        self._far = plain.reshape(len(plain), -1) if far else None

    def batch(self, positions: Tensor) -> Batch:
        """Return the batch as indices."""
        positions = positions.to(self._tokens.device)
        indices = self._near_rows(positions) if self._far is None else self._far_rows(self._far, positions)
        indices = indices if self._unfold is None else self._unfold(indices)
        return Batch(self.labels.index_select(0, positions), self.num_classes, indices=indices)

    def _near_rows(self, positions: Tensor) -> Tensor:
        tokens = self._tokens.index_select(0, positions).long()
        return tokens & 0xFFFF if self._wraps else tokens

    def _far_rows(self, tokens: np.ndarray, positions: Tensor) -> Tensor:
        from tokexp.storage.gathering import gather

        rows = torch.empty((len(positions), *self._tokens.shape[1:]), dtype=torch.int64)
        gather(tokens, positions.long().contiguous().numpy(), rows.view(len(positions), tokens.shape[1]).numpy())
        return rows


class PixelFeed(Feed):
    """Images of a source, resident if they fit, else read when asked for."""

    def __init__(
        self, source: ImageSource, split: str, device: torch.device, positions: Sequence[int] | None = None
    ) -> None:
        """Take all images of a split, or those at `positions`."""
        labels = source.labels(split)
        self._positions = np.arange(len(labels)) if positions is None else np.asarray(positions, dtype=np.int64)
        self._source, self._split, self._device = source, split, device
        self.labels = torch.from_numpy(labels[self._positions]).to(device)
        self.num_images, self.num_classes = len(self._positions), len(source.classes)
        self._resident = self._read_all()

    def _read_all(self) -> Tensor | None:
        if self.num_images == 0:
            return None
        first = self._source.read(self._split, [int(self._positions[0])])
        if first.numel() * 4 * self.num_images > RESIDENT_BYTES:
            return None
        images = torch.empty((self.num_images, *first.shape[1:]))
        for start in range(0, self.num_images, _CHUNK):
            chunk = self._positions[start : start + _CHUNK].tolist()
            images[start : start + len(chunk)] = self._source.read(self._split, chunk)
        return images.to(self._device)

    def batch(self, positions: Tensor) -> Batch:
        """Return the batch as pixels in [0, 1]."""
        positions = positions.to(self._device)
        if self._resident is not None:
            values = self._resident.index_select(0, positions)
        else:
            wanted = self._positions[positions.cpu().numpy()].tolist()
            values = self._source.read(self._split, wanted).to(self._device)
        return Batch(self.labels.index_select(0, positions), self.num_classes, values=values)


class SoftLabelFeed(Feed):
    """Batches of one feed, with soft labels as what their classes are learned from."""

    def __init__(self, content: Feed, soft_labels: np.ndarray) -> None:
        """Take shares (N, classes) of the same samples; they are kept as float32 on the feed's device."""
        if soft_labels.shape != (content.num_images, content.num_classes):
            raise ValueError(f"soft labels of shape {soft_labels.shape} are not those of these images")
        self._content = content
        self._soft = torch.from_numpy(np.asarray(soft_labels, dtype=np.float32)).to(content.labels.device)
        self.num_images, self.num_classes, self.labels = content.num_images, content.num_classes, content.labels

    def batch(self, positions: Tensor) -> Batch:
        """Return the content's batch with `targets`."""
        soft = self._soft.index_select(0, positions.to(self._soft.device))
        return replace(self._content.batch(positions), targets=soft)


class TargetFeed(Feed):
    """Batches of one feed, with the tokens that another has at the same positions as what is to be predicted."""

    def __init__(self, content: Feed, tokens: TokenFeed) -> None:
        """Take both. Raises ValueError if they differ in their labels, as feeds of other images would."""
        if not torch.equal(content.labels, tokens.labels):
            raise ValueError("the tokens to predict are not those of these images: their labels differ")
        self._content, self._tokens = content, tokens
        self.num_images, self.num_classes, self.labels = content.num_images, content.num_classes, content.labels

    def batch(self, positions: Tensor) -> Batch:
        """Return the content's batch with `target_indices`."""
        return replace(self._content.batch(positions), target_indices=self._tokens.batch(positions).indices)
