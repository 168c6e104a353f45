"""Bipartite matching, over and over (Bolya et al. 2023, ToMe; Kim et al. 2024, DTM section 4.2), as integer labels.

A step on x (B, T, d): even positions A choose their most alike odd partner in B (cosine), the r best of A join it, and
what is left is ordered [A not merged ; B]. The next step works on the means of the groups. Only sums are carried: the
cosine of sums is that of means. Labels replace the release's product of source matrices, `labels := new[labels]`.
"""

import torch
from torch import Tensor

from tokexp.objectives.groupers.base import Grouper, Grouping, group_sums
from tokexp.objectives.morphing.schedules import Level
from tokexp.spec.morphing import Bipartite, most_merged

_EPS = 1e-6


class BipartiteMatching(Grouper):
    """Merges by the level's steps, from the tokens themselves."""

    def __init__(self, spec: Bipartite) -> None:
        """Take whether the first token never merges."""
        self.protect_first = spec.protect_first

    @torch.no_grad()
    def group(self, tokens: Tensor, level: Level, generator: torch.Generator) -> Grouping:
        """Return the level's groups; in float32 whatever the precision around it, as near ties change the groups."""
        del generator
        with torch.autocast(tokens.device.type, enabled=False):
            sums = tokens.float()
            labels = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[:2])
            for count in level.steps:
                new, sums = merge(sums, count, self.protect_first)
                labels = new.gather(1, labels)
        return Grouping(labels, sums.shape[1])


def merge(sums: Tensor, count: int, protect_first: bool) -> tuple[Tensor, Tensor]:
    """Return the new position (B, T) of every token after one step that removes `count`, and the sums (B, T - r, d).

    sums: (B, T, d), each the sum of a group's tokens. `count` is cut to what one step can remove. With `protect_first`
    the first token stays first, and those that did not merge keep their order; else they stand by falling similarity.
    """
    total = sums.shape[1]
    count = min(count, most_merged(total, protect_first))
    if count <= 0:
        return torch.arange(total, device=sums.device).expand(sums.shape[:2]), sums
    even, odd = sums[:, ::2], sums[:, 1::2]
    # A token of length 0 would give NaN, which ranks first.
    unit = sums / (sums.norm(dim=-1, keepdim=True) + _EPS)
    scores = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)
    if protect_first:
        scores[:, 0] = -torch.inf
    best, partner = scores.max(dim=-1)
    order = best.argsort(dim=-1, descending=True, stable=True)
    merged, alone = order[:, :count], order[:, count:]
    if protect_first:
        alone = alone.sort(dim=-1).values
    joined, odds = partner.gather(1, merged), odd.shape[1]
    new = torch.empty(sums.shape[:2], dtype=torch.int64, device=sums.device)
    new[:, 1::2] = alone.shape[1] + torch.arange(odds, device=sums.device)
    of_even = torch.empty_like(order).scatter(1, merged, alone.shape[1] + joined)
    ranks = torch.arange(alone.shape[1], device=sums.device).expand_as(alone)
    new[:, ::2] = of_even.scatter(1, alone, ranks)
    added = group_sums(even.take_along_dim(merged[:, :, None], dim=1), joined, odds)
    return new, torch.cat([even.take_along_dim(alone[:, :, None], dim=1), odd + added], dim=1)


def build(spec: Bipartite) -> BipartiteMatching:
    """Return the grouper of a spec."""
    return BipartiteMatching(spec)
