"""Masked image modelling: patches masked at random, their tokens predicted (Baraldi et al. 2023, section 3).

Maximise the sum of log p(token of i | image with the masked patches replaced) over masked patches i. A masked patch's
embedding becomes one learned vector before positions are added (Bao et al. 2022, BEiT); visible patches and the class
token predict nothing.
"""

import torch
from torch import Tensor

from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.token_prediction import Chosen, TokenPrediction
from tokexp.spec.masked import Beit, Mim


class MaskedImageModelling(TokenPrediction):
    """The first `masked` patches of a random order are hidden and predicted; `masked` is the same for every sample."""

    def __init__(self, spec: Mim | Beit, context: ObjectiveContext) -> None:
        """Take the method and what it trains."""
        super().__init__(context)
        self.masked = spec.predicted(self.num_patches)

    def draw(self, samples: int, generator: torch.Generator) -> Chosen:
        """Return a uniformly random order of the patches of every sample."""
        noise = torch.rand(samples, self.num_patches, generator=generator, device=generator.device)
        return Chosen(noise.argsort(dim=1))

    def features(self, patches: Tensor, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """Return features (B, masked, width) and the masked patches, of patches (B, N, width)."""
        hidden = self.hidden(chosen)
        patches = torch.where(hidden[:, :, None], self.mask_vector.to(patches.dtype), patches)
        encoded = self.backbone.norm(self.backbone.encode(patches))[:, 1:]
        masked = chosen.order[:, : self.masked]
        return encoded.take_along_dim(masked[:, :, None], dim=1), masked

    def hidden(self, chosen: Chosen) -> Tensor:
        """Return (B, N) bool: which patches are masked, in raster order."""
        ranks = torch.arange(self.num_patches, device=chosen.order.device)
        count = self.masked if chosen.counts is None else chosen.counts[:, None]
        return (ranks < count).expand_as(chosen.order).gather(1, chosen.order.argsort(dim=1))


def build(spec: Mim, context: ObjectiveContext) -> MaskedImageModelling:
    """Return the objective for a spec; build its backbone with learned positions."""
    return MaskedImageModelling(spec, context)
