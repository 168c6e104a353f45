"""Merging inside the target's encoder (Kim et al. 2024, DTM, table 2: layer-wise; after Bolya et al. 2023, ToMe).

After every block the tokens, class token included, are matched by that block's output and merged to their size-weighted
means; the class token never merges. What comes out at the end is compared as it is: its features were altered on the
way. ToMe merges between attention and MLP, on keys; this is the text's form. The count per block is not published.
"""

import torch
from torch import Tensor

from tokexp.errors import InputError
from tokexp.objectives.groupers.base import EncodingGrouper, Grouping
from tokexp.objectives.groupers.bipartite import merge
from tokexp.objectives.targets.base import Target
from tokexp.spec.morphing import Layerwise


class LayerwiseMerging(EncodingGrouper):
    """Removes the same number of tokens after every block."""

    def __init__(self, spec: Layerwise) -> None:
        """Take how many tokens every block removes."""
        self.per_block = spec.per_block

    @torch.no_grad()
    def encode(self, target: Target, values: Tensor, generator: torch.Generator) -> tuple[Grouping, Tensor]:
        """Return the groups of the patches and the target's tokens for them; nothing is drawn."""
        del generator
        if target.prefix != 1:
            raise InputError("grouper layerwise needs a target with one class token")
        tokens = target.start(values)
        sizes = torch.ones(*tokens.shape[:2], 1, device=tokens.device)
        labels = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[:2])
        for block in target.blocks():
            tokens = block(tokens)
            new, sums = _merged(tokens.float() * sizes, sizes, self.per_block)
            labels, sizes = new.gather(1, labels), sums[..., -1:]
            tokens = (sums[..., :-1] / sizes).to(tokens.dtype)
        return Grouping(labels[:, 1:] - 1, tokens.shape[1] - 1), target.finish(tokens[:, 1:])


def _merged(sums: Tensor, sizes: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return new positions and the sums with their sizes behind, the class token protected."""
    new, merged = merge(sums, count, protect_first=True)
    counted = torch.zeros_like(merged[..., :1]).scatter_add(1, new[..., None], sizes)
    return new, torch.cat([merged, counted], dim=-1)


def build(spec: Layerwise) -> LayerwiseMerging:
    """Return the grouper of a spec."""
    return LayerwiseMerging(spec)
