"""What every tokenizer is, and the codebook that everything downstream of it reads.

codes = the codebook's vectors (K, d); indices = integers into it; tokens = a grid of indices.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, normalize

from tokexp.objectives.base import Objective

Metric = Literal["euclidean", "cosine"]


@dataclass(frozen=True)
class TokenizerInfo:
    """The facts of a fitted or loaded tokenizer.

    image_shape: (C, H, W) that it reads. grid: (rows, columns) of tokens. metric: how a vector finds its code.
    mean, std: normalisation applied to pixels in [0, 1]. implicit_codebook: codes follow from the index, nothing
    is stored. outside_data: what it was trained on besides the experiment's own images ("none" if nothing).
    """

    image_shape: tuple[int, int, int]
    grid: tuple[int, int]
    pixels_per_token: int
    metric: Metric = "euclidean"
    decodes: bool = True
    implicit_codebook: bool = False
    outside_data: str = "none"
    mean: float = 0.0
    std: float = 1.0


class Tokenizer(nn.Module, ABC):
    """Images (n, C, H, W) in [0, 1] to indices (n, rows, columns), and back where `info.decodes`.

    All that defines it lives in its parameters and buffers, so `state_dict` (as safetensors) and the spec rebuild it.
    """

    info: TokenizerInfo

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Return int64 indices (n, rows, columns) into `codebook()`."""

    @abstractmethod
    def codebook(self) -> Tensor:
        """Return the codes (K, d), float32."""

    @abstractmethod
    def decode(self, indices: Tensor) -> Tensor:
        """Return images (n, C, H, W) in [0, 1]. Raises InputError if this tokenizer has no decoder."""

    def decode_values(self, values: Tensor) -> Tensor:
        """Return images (n, C, H, W) in [0, 1] of vectors (n, d, rows, columns) that need not be codes.

        Those of their nearest codes, unless the decoder takes vectors. Raises InputError without a decoder.
        """
        return self.decode(Codebook(self.codebook(), self.info.metric).nearest(values))

    def fit(self, images: Iterable[Tensor]) -> dict[str, float]:
        """Fit without gradients on batches of images, and return measures; tokenizers trained otherwise do nothing."""
        del images
        return {}

    def objective(self) -> Objective | None:
        """Return the objective that trains this tokenizer by gradient, or None. Its batches hold pixels."""
        return None

    def code_facts(self) -> dict[str, object]:
        """Return what a store has to note, JSON-ready, so that its tokens can be read without this tokenizer."""
        return {}

    def weights_digest(self) -> str:
        """Return 16 hex digits that tokenizers of equal weights share and, but by chance, no others."""
        seen = blake2b(digest_size=8)
        for name, value in sorted(self.state_dict().items()):
            seen.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            seen.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return seen.hexdigest()


class Codebook(nn.Module):
    """The codes in use (K, d) and how a vector finds its nearest one. Never trained.

    is_table: an index stands for a whole vector, its row of codes. Where it does not (coefficients), several indices
    make up the vector of one place, and `unfold` brings them there from the grid in which they are stored.
    """

    codes: Tensor
    is_table: ClassVar[bool] = True

    def __init__(self, codes: Tensor, metric: Metric = "euclidean") -> None:
        """Take codes (K, d) and the metric of the tokenizer that made them."""
        super().__init__()
        self.metric: Metric = metric
        self.register_buffer("codes", codes.float())

    def __len__(self) -> int:
        """Return K, the number of codes."""
        return len(self.codes)

    @property
    def width(self) -> int:
        """Return d, the width of a code."""
        return self.codes.shape[1]

    @property
    def spread(self) -> Tensor:
        """Return the size of an embedding's numbers, of a form that broadcasts over (B, d, H, W)."""
        found: Tensor = self.codes.norm(dim=1).mean() / self.width**0.5
        return found

    def map_grid(self, stored: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the places that a stored grid holds."""
        return stored

    def unfold(self, stored: Tensor) -> Tensor:
        """Return the indices of stored grids (B, rows, columns) as `lookup` and the augmentations take them."""
        return stored

    def fold(self, indices: Tensor) -> Tensor:
        """Return indices in the grid in which they are stored: the way back from `unfold`."""
        return indices

    def lookup(self, indices: Tensor) -> Tensor:
        """Return embeddings (B, d, H, W) for indices (B, H, W)."""
        return embedding(indices, self.codes).permute(0, 3, 1, 2)

    def nearest(self, values: Tensor) -> Tensor:
        """Return indices (B, H, W) of the codes nearest to values (B, d, H, W), searched in float32."""
        with torch.autocast(values.device.type, enabled=False):
            vectors, codes = values.float().permute(0, 2, 3, 1), self.codes.float()
            if self.metric == "cosine":
                return (vectors @ normalize(codes, dim=1).T).argmax(-1)
            scores = vectors @ codes.T - 0.5 * codes.square().sum(1)
            return scores.argmax(-1)
