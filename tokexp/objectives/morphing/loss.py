"""The morphing loss: means of groups on both sides, their distance weighted by size (Kim et al. 2024, eqs. 4 and 5).

    loss = 1/N sum_g w_g d(u_g, v_g),   u_g = mean of the student's tokens in group g, v_g = mean of the target's,

averaged over samples and levels. That equals the release's form, which writes every group's mean back to its tokens and
averages over these. The text prints sums for means: the same direction for the cosine, 196 L times the loss.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, layer_norm, smooth_l1_loss

from tokexp.objectives.groupers.base import Grouping, group_sizes, group_sums
from tokexp.spec.morphing import MorphingSpec

_EPS = 1e-6

Distance = Callable[[Tensor, Tensor], Tensor]
"""From rows (..., d) on both sides to their distances (...)."""


def distance_of(spec: MorphingSpec) -> Distance:
    """Return the distance of a spec; l1, l2 and smooth_l1 are means over channels."""
    return {
        "cosine": lambda u, v: 1 - cosine_similarity(u, v, dim=-1, eps=_EPS),
        "l1": lambda u, v: (u - v).abs().mean(-1),
        "l2": lambda u, v: (u - v).square().mean(-1),
        "smooth_l1": lambda u, v: smooth_l1_loss(u, v, reduction="none", beta=spec.beta).mean(-1),
    }[spec.distance]


def group_means(tokens: Tensor, grouping: Grouping) -> Tensor:
    """Return the means (B, groups, d) of tokens (B, N, d); 0 for a group without tokens."""
    if grouping.labels is None:
        return tokens
    sizes = group_sizes(grouping.labels, grouping.groups)[:, :, None].clamp_min(1)
    return group_sums(tokens, grouping.labels, grouping.groups) / sizes


def morphing_loss(
    student: Tensor, grouping: Grouping, morphed: Tensor, distance: Distance, standardise: bool = False
) -> Tensor:
    """Return the loss (scalar, float32) of one level; gradients reach the student alone.

    student: (B, N, d), a prediction for every patch. morphed: (B, groups, d), the target's groups.
    """
    with torch.autocast(student.device.type, enabled=False):
        wanted = morphed.detach().float()
        if standardise:
            wanted = layer_norm(wanted, wanted.shape[-1:], eps=_EPS)
        means = group_means(student.float(), grouping)
        far = distance(means, wanted)
        if grouping.labels is None:
            return far.mean()
        return (far * group_sizes(grouping.labels, grouping.groups)).sum(1).mean() / student.shape[1]
