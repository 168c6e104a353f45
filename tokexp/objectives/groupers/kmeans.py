"""K-means of each image's tokens (Lloyd 1982; Kim et al. 2024, DTM, table 11): as many clusters as groups were drawn.

The first centroids are the tokens at random places, the same for the whole micro-batch, as in DTM. DTM clusters what
enters the target's last norm; here it is the target's tokens themselves, so that any target will do.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tokexp.objectives.groupers.base import Grouper, Grouping
from tokexp.objectives.morphing.schedules import Level
from tokexp.spec.morphing import KMeans


class KMeansGrouper(Grouper):
    """Lloyd's updates, one for every iteration of the level. A cluster may end up empty; its centroid stays."""

    @torch.no_grad()
    def group(self, tokens: Tensor, level: Level, generator: torch.Generator) -> Grouping:
        """Return the clusters of every image; Euclidean distances, in float32."""
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.float()
            first = torch.rand(tokens.shape[1], generator=generator, device=tokens.device).argsort()[: level.groups]
            centroids = tokens[:, first]
            for _ in level.steps:
                centroids = _updated(tokens, nearest(tokens, centroids), centroids)
            return Grouping(nearest(tokens, centroids), level.groups)


def nearest(tokens: Tensor, centroids: Tensor) -> Tensor:
    """Return the nearest of the centroids (B, K, d) for each of tokens (B, N, d): (B, N) int64, ties to the first."""
    # |x|^2 is the same for all centroids.
    return (centroids.square().sum(-1)[:, None] - 2 * tokens @ centroids.transpose(1, 2)).argmin(-1)


def _updated(tokens: Tensor, labels: Tensor, centroids: Tensor) -> Tensor:
    members = one_hot(labels, centroids.shape[1]).float().transpose(1, 2)
    sizes = members.sum(-1, keepdim=True)
    return torch.where(sizes > 0, members @ tokens / sizes.clamp_min(1), centroids)


def build(spec: KMeans) -> KMeansGrouper:
    """Return the grouper of a spec."""
    del spec
    return KMeansGrouper()
