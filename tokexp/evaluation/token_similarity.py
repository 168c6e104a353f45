"""Token similarity: how alike the patches of an image are as a stem gives them (Qian et al. 2022, MoTo, figure 2).

The mean cosine of two different patches of an image, averaged over images; before positions, without the class token.
With unit vectors t of N patches it is (|sum t|^2 - N) / (N (N - 1)): no N x N products are made.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tokexp.errors import InputError
from tokexp.evaluation.base import Measure, Measured
from tokexp.spec.evaluation import TokenSimilarity


def similarity(patches: Tensor) -> Tensor:
    """Return the mean cosine (B,) of all pairs of different patches (B, N, D); N from 2."""
    count = patches.shape[1]
    total = normalize(patches.double(), dim=-1).sum(1).square().sum(-1)
    return (total - count) / (count * (count - 1))


class StemSimilarity(Measure):
    """Averages over the images of a split."""

    def __init__(self, spec: TokenSimilarity) -> None:
        """Take the split."""
        self.split = spec.split

    def measure(self, model: Measured) -> dict[str, float]:
        """Return token_similarity, from -1 to 1. Raises InputError for a model of one patch."""
        rows, columns = model.backbone.patch_grid
        if rows * columns < 2:
            raise InputError("token_similarity compares patches of an image; this model has one")
        found = []
        with torch.no_grad():
            for batch in model.batches(self.split):
                found.append(similarity(model.backbone.embed(model.token_input(batch.values))).cpu())
        return {"token_similarity": float(torch.cat(found).mean())}


def build(spec: TokenSimilarity, image_shape: tuple[int, int, int]) -> StemSimilarity:
    """Return the measure for a spec."""
    del image_shape
    return StemSimilarity(spec)
