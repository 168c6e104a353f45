"""How many of a tokenizer's codes an update of its training used, and how evenly."""

from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Use:
    """share: codes that occurred, over all codes. perplexity: exp of the entropy of their frequencies (1 to K)."""

    share: Tensor
    perplexity: Tensor


class CodeCounter:
    """Counts codes over the micro-batches of an update, and over all processes; nothing of it outlives the update."""

    def __init__(self, codes: int) -> None:
        """Take the number of codes."""
        self._codes = codes
        self._counts: Tensor | None = None

    def add(self, indices: Tensor) -> None:
        """Count indices of any shape."""
        counts = torch.bincount(indices.reshape(-1), minlength=self._codes)
        self._counts = counts if self._counts is None else self._counts + counts

    def take(self) -> Use | None:
        """Return the use of all that was counted, on all processes, and begin anew; None if nothing was."""
        if self._counts is None:
            return None
        counts, self._counts = self._counts, None
        if distributed.is_initialized():
            distributed.all_reduce(counts)
        frequencies = counts.double() / counts.sum()
        entropy = -torch.special.xlogy(frequencies, frequencies).sum()
        return Use((counts > 0).double().mean().float(), entropy.exp().float())
