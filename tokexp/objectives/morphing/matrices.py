"""Morphing by source matrices, as the text of Kim et al. 2024 (DTM) writes it: what the labels are compared with.

S (B, groups, N) holds a 1 where a token belongs to a group; every step multiplies another matrix on. Clearer and slower
than the labels: nothing but tests and `tokexp bench objectives` uses it.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tokexp.objectives.morphing.loss import Distance
from tokexp.objectives.morphing.schedules import Level


@torch.no_grad()
def source_matrix(tokens: Tensor, level: Level, protect_first: bool) -> Tensor:
    """Return S (B, groups, N) of a level by bipartite matching of tokens (B, N, d), float32."""
    samples, count, _ = tokens.shape
    source = torch.eye(count, device=tokens.device).expand(samples, count, count)
    for removed in filter(None, level.steps):
        means = source @ tokens / source.sum(-1, keepdim=True)
        source = _step_matrix(means, removed, protect_first) @ source
    return source


def _step_matrix(means: Tensor, removed: int, protect_first: bool) -> Tensor:
    """Return the matrix (B, T - removed, T) of one step."""
    samples, total, _ = means.shape
    directions = normalize(means, dim=-1)
    scores = directions[:, ::2] @ directions[:, 1::2].transpose(1, 2)
    if protect_first:
        scores[:, 0] = -torch.inf
    best, partner = scores.max(-1)
    order = best.argsort(-1, descending=True)
    merged, alone = order[:, :removed], order[:, removed:]
    if protect_first:
        alone = alone.sort(-1).values
    step = torch.zeros(samples, total - removed, total, device=means.device)
    rank = torch.arange(total, device=means.device)
    left = alone.shape[1]
    step[torch.arange(samples)[:, None], rank[:left], 2 * alone] = 1
    step[:, left + rank[: total // 2], 2 * rank[: total // 2] + 1] = 1
    step[torch.arange(samples)[:, None], left + partner.gather(1, merged), 2 * merged] = 1
    return step


def matrix_loss(student: Tensor, target: Tensor, source: Tensor, distance: Distance) -> Tensor:
    """Return the loss of one level: means by S, written back to their tokens by its transpose, averaged over tokens."""
    mean = source / source.sum(-1, keepdim=True)
    back = source.transpose(1, 2)
    return distance(back @ (mean @ student), back @ (mean @ target.detach())).mean()
