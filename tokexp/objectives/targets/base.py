"""What every target is: a transformer that turns whole images into one token for every patch, without gradient."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Target(nn.Module, ABC):
    """Reads what the student reads, before its own normalisation; always in eval mode, and never trained.

    width: of its tokens. patch_grid: (rows, columns) of them. prefix: tokens in front that are no patches.
    """

    width: int
    patch_grid: tuple[int, int]
    prefix: int = 1

    @abstractmethod
    def start(self, values: Tensor) -> Tensor:
        """Return (B, prefix + N, D), what the first block gets, for values (B, C, H, W)."""

    @abstractmethod
    def blocks(self) -> Iterable[nn.Module]:
        """Return the blocks in their order."""

    @abstractmethod
    def finish(self, tokens: Tensor) -> Tensor:
        """Return tokens (..., width) of the last block's (..., D): the final norm, and a projection if there is one."""

    @torch.no_grad()
    def forward(self, values: Tensor) -> Tensor:
        """Return the tokens (B, N, width) of all patches, row by row."""
        tokens = self.start(values)
        for block in self.blocks():
            tokens = block(tokens)
        return self.finish(tokens[:, self.prefix :])

    def train(self, mode: bool = True) -> "Target":
        """Stay in eval mode: what a target says may not depend on dropout."""
        del mode
        return super().train(False)

    def follow(self, *students: nn.Module) -> None:
        """Take over what the student learned in an update; nothing for a frozen target."""
        del students


class Held:
    """Keeps a module out of the state, the parameters and the copies of the module that uses it."""

    def __init__(self, module: Any) -> None:
        """Take the module, on the device where it is used."""
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> "Held":
        """Return itself: it is never changed."""
        del memo
        return self
