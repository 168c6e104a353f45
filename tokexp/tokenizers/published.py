"""What tokenizers with weights from a published file share: reading the file, the input rule, chunks.

Own design. Images come in [0, 1], as the data block resized and cropped them; where the network reads another size,
they are resized here. Sources of the networks are named in each kind's file.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from tokexp.errors import InputError
from tokexp.spec.published_tokenizers import FrozenTokenizer
from tokexp.tokenizers.base import Metric, Tokenizer, TokenizerInfo
from tokexp.tokenizers.checkpoints import load_published, read_tensors

_PIXELS = 1 << 22
"""Most pixels (of one channel) that are encoded or decoded at once."""


class PublishedTokenizer(Tokenizer):
    """A network under the names of its published checkpoint; `fit` reads that file and needs no images.

    DROP: prefixes of the file's tensors that are not the tokenizer's. METRIC, DECODES, OUTSIDE: see `TokenizerInfo`.
    """

    DROP: ClassVar[tuple[str, ...]] = ()
    METRIC: ClassVar[Metric] = "euclidean"
    DECODES: ClassVar[bool] = True
    OUTSIDE: ClassVar[str] = "ImageNet-1k"

    def __init__(self, spec: FrozenTokenizer, image_shape: tuple[int, int, int]) -> None:
        """Take the spec and the images' shape. Raises InputError for images that it cannot read."""
        super().__init__()
        if fault := spec.fault(image_shape):
            raise InputError(f"tokenizer: {fault}")
        grid = spec.grid(image_shape)
        self.spec, self.side = spec, spec.input_side(image_shape)
        self.info = TokenizerInfo(
            image_shape, grid, pixels_per_token=image_shape[1] * image_shape[2] // (grid[0] * grid[1]),
            metric=self.metric(), decodes=self.DECODES, outside_data=self.outside_data(),
        )  # fmt: skip
        self.chunk = max(1, _PIXELS // (self.side[0] * self.side[1]))

    @abstractmethod
    def indices(self, pixels: Tensor) -> Tensor:
        """Return int64 indices (n, rows, columns) of pixels (n, 3, H, W) in [0, 1], of the size that it reads."""

    def pixels(self, indices: Tensor) -> Tensor:
        """Return pixels (n, 3, H, W) of indices, not clipped. Raises InputError without a decoder."""
        raise InputError(f"{self.spec.kind} has no decoder: its tokens cannot become images")

    def outside_data(self) -> str:
        """Return what the network was trained on."""
        return self.OUTSIDE

    def metric(self) -> Metric:
        """Return how a vector finds its code."""
        return self.METRIC

    def published(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return a file's tensors under this network's names; they are the same unless a kind says otherwise."""
        return tensors

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return int64 indices (n, rows, columns) of images (n, 3, H, W) in [0, 1]."""
        if not len(images):
            return torch.empty((0, *self.info.grid), dtype=torch.int64, device=images.device)
        with torch.autocast(images.device.type, enabled=False):
            parts = [self.indices(resized(chunk.float(), self.side)) for chunk in images.split(self.chunk)]
        return torch.cat(parts)

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        """Return images (n, 3, H, W) in [0, 1]. Raises InputError without a decoder."""
        if not len(indices) and self.info.decodes:
            return torch.empty((0, *self.info.image_shape), device=indices.device)
        side = self.info.image_shape[1:]
        with torch.autocast(indices.device.type, enabled=False):
            parts = [resized(self.pixels(chunk).clamp(0, 1), side) for chunk in indices.split(self.chunk)]
        return torch.cat(parts)

    def fit(self, images: Iterable[Tensor]) -> dict[str, float]:
        """Read the checkpoint; return the mean norm of its codes, on which noise on embeddings depends.

        Raises DataError if the file is missing or is not one of this kind with the sizes of the spec.
        """
        del images
        self.load()
        return {"code_norm": float(self.codebook().norm(dim=1).mean())}

    def load(self) -> None:
        """Read the checkpoint that the spec names. Raises DataError, and InputError without a name."""
        file = self.spec.checkpoint
        if file is None:
            raise InputError("tokenizer.checkpoint: missing; name the file of the published weights")
        load_published(self, self.published(read_tensors(file)), file, self.spec.kind, self.DROP)


def resized(images: Tensor, side: tuple[int, int]) -> Tensor:
    """Return images (n, C, H, W) in [0, 1] at another size, bicubic and without aliasing; as they are at the same."""
    if tuple(images.shape[2:]) == tuple(side):
        return images
    return interpolate(images, side, mode="bicubic", antialias=True).clamp(0, 1)
