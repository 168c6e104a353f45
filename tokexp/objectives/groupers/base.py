"""What every grouper is, and group sums by labels."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tokexp.objectives.targets.base import Target

if TYPE_CHECKING:
    from tokexp.objectives.morphing.schedules import Level


@dataclass(frozen=True)
class Grouping:
    """A partition of every image's tokens. labels: (B, N) int64 from 0 to groups - 1; None if every token is alone."""

    labels: Tensor | None
    groups: int


class Grouper(ABC):
    """Puts tokens of a target into groups. It sees the target alone, and no gradient passes through it."""

    scheduled: ClassVar[bool] = True
    """Whether the number of groups is drawn; if not, every level would be the same."""

    @abstractmethod
    def group(self, tokens: Tensor, level: "Level", generator: torch.Generator) -> Grouping:
        """Return the groups of tokens (B, N, d), float32, on their device."""

    def check(self, grid: tuple[int, int]) -> None:
        """Raise InputError for a grid of patches that cannot be grouped; nothing by default."""
        del grid


class EncodingGrouper(Grouper):
    """Groups tokens while they are encoded, by running the target's blocks itself: `encode` stands for `group`."""

    scheduled = False

    @abstractmethod
    def encode(self, target: Target, values: Tensor, generator: torch.Generator) -> tuple[Grouping, Tensor]:
        """Return the groups of the patches of values (B, C, H, W), and the target's tokens (B, groups, width) for them.

        Raises InputError for a target whose blocks cannot be run like that.
        """

    def group(self, tokens: Tensor, level: "Level", generator: torch.Generator) -> Grouping:
        """Raise TypeError: tokens that are encoded already cannot be merged on the way."""
        raise TypeError(f"{type(self).__name__} merges while it encodes; call encode")


def group_sums(tokens: Tensor, labels: Tensor, groups: int) -> Tensor:
    """Return the sums (B, groups, d) of tokens (B, N, d) with equal labels (B, N); groups without tokens are 0.

    On a GPU additions by index come in any order, and results differ from run to run; there it is a product with the
    labels' one-hot rows.
    """
    add = sums_by_index if tokens.device.type == "cpu" else sums_by_product
    return add(tokens, labels, groups)


def sums_by_product(tokens: Tensor, labels: Tensor, groups: int) -> Tensor:
    """Return group sums as a product, the same at every run."""
    return one_hot(labels, groups).to(tokens.dtype).transpose(1, 2) @ tokens


def sums_by_index(tokens: Tensor, labels: Tensor, groups: int) -> Tensor:
    """Return group sums by additions at an index, with less work."""
    samples, _, width = tokens.shape
    rows = (labels + groups * torch.arange(samples, device=labels.device)[:, None]).flatten()
    sums = tokens.new_zeros(samples * groups, width).index_add(0, rows, tokens.flatten(0, 1))
    return sums.view(samples, groups, width)


def group_sizes(labels: Tensor, groups: int) -> Tensor:
    """Return how many tokens every group has, (B, groups) float32."""
    counted = torch.zeros(len(labels), groups, device=labels.device)
    return counted.scatter_add(1, labels, torch.ones_like(labels, dtype=counted.dtype))
