"""K-means inside the target's encoder (Lloyd 1982; Kim et al. 2024, DTM, table 11: layer-wise k-means).

After every block the patches are clustered by that block's output, Euclidean, and replaced by the clusters' means; the
class token stays as it is. Tokens count as often as they have members, so that a mean is that of its members. How many
clusters and updates there were is not published: here the number falls by as much in every block.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from tokexp.errors import InputError
from tokexp.objectives.groupers.base import EncodingGrouper, Grouping
from tokexp.objectives.groupers.kmeans import nearest
from tokexp.objectives.targets.base import Target
from tokexp.spec.morphing import LayerwiseKMeans


class LayerwiseClustering(EncodingGrouper):
    """Lloyd's updates after every block, from tokens at random places, the same for the whole micro-batch.

    A cluster may end up empty: its centroid stays as a token that stands for no patch and weighs nothing.
    """

    def __init__(self, spec: LayerwiseKMeans) -> None:
        """Take the share of tokens that is removed in all, and the number of updates."""
        self.removed, self.updates = spec.removed, spec.updates

    def counts(self, tokens: int, blocks: int) -> list[int]:
        """Return how many of N tokens are left after every block: equally spaced, at least one."""
        gone = [int(self.removed * tokens * block / blocks + 1e-9) for block in range(1, blocks + 1)]
        return [max(1, tokens - each) for each in gone]

    @torch.no_grad()
    def encode(self, target: Target, values: Tensor, generator: torch.Generator) -> tuple[Grouping, Tensor]:
        """Return the clusters of the patches and the target's tokens (B, clusters, width) for them."""
        if target.prefix != 1:
            raise InputError("grouper layerwise_kmeans needs a target with one class token")
        tokens, blocks = target.start(values), list(target.blocks())
        samples, patches = len(tokens), tokens.shape[1] - 1
        labels = torch.arange(patches, device=tokens.device).expand(samples, patches)
        sizes = torch.ones(samples, patches, device=tokens.device)
        for block, count in zip(blocks, self.counts(patches, len(blocks)), strict=True):
            tokens = block(tokens)
            if count < sizes.shape[1]:
                new, means, sizes = self._clustered(tokens[:, 1:].float(), sizes, count, generator)
                labels = new.gather(1, labels)
                tokens = torch.cat([tokens[:, :1], means.to(tokens.dtype)], dim=1)
        return Grouping(labels, sizes.shape[1]), target.finish(tokens[:, 1:])

    def _clustered(
        self, tokens: Tensor, sizes: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the clusters (B, T) of tokens (B, T, d) with sizes (B, T), their means and their sizes."""
        with torch.autocast(tokens.device.type, enabled=False):
            first = torch.rand(tokens.shape[1], generator=generator, device=tokens.device).argsort()[:count]
            centroids = tokens[:, first]
            for _ in range(self.updates):
                centroids, _ = _means(tokens, sizes, nearest(tokens, centroids), centroids)
            labels = nearest(tokens, centroids)
            return labels, *_means(tokens, sizes, labels, centroids)


def _means(tokens: Tensor, sizes: Tensor, labels: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the clusters' means (B, K, d), weighted by size, and their sizes (B, K); empty ones stay as they are."""
    weights = one_hot(labels, centroids.shape[1]).float().transpose(1, 2) * sizes[:, None]
    members = weights.sum(-1)
    means = weights @ tokens / members.clamp_min(1)[:, :, None]
    return torch.where(members[:, :, None] > 0, means, centroids), members


def build(spec: LayerwiseKMeans) -> LayerwiseClustering:
    """Return the grouper of a spec."""
    return LayerwiseClustering(spec)
