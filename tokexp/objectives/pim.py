"""Permuted image modelling: tokens predicted one after another in a random order (Baraldi et al. 2023, equation 1).

Maximise the sum over ranks t > c of log p(token of z_t | patches of ranks below t), z a random order of the patches.
The first c ranks are context. A content stream reads patches, each seeing itself and what is before it; a query stream
of one learned vector at the target's place sees what is strictly before it, and predicts. Patches are gathered into
rank order first, so that which rank sees which is a constant of the run.
"""

import torch
from torch import Tensor

from tokexp.errors import InputError
from tokexp.models.base import Streams, additive
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.token_prediction import Chosen, TokenPrediction
from tokexp.spec.permuted import Mapet, Pim


def visible(context: int, targets: int, mask_tokens: bool) -> Tensor:
    """Return (2 T, keys) bool: what content rows, then query rows, of the T targets see, in rank order.

    Rank 0 is the class token, 1 to `context` are context, the T that follow are targets. A row has a threshold: its
    rank + 1 in the content stream, which sees itself, and its rank in the query stream. It sees content of ranks below
    the threshold, and mask tokens of ranks from the threshold on, so with them every place exactly once. Keys: class
    token and context; the T mask tokens if there are any; the T targets' content.
    """
    ranks = torch.arange(context + 1, context + 1 + targets)
    threshold = torch.cat([ranks + 1, ranks])[:, None]
    always = torch.ones(2 * targets, 1 + context, dtype=torch.bool)
    unseen = [ranks >= threshold] if mask_tokens else []
    return torch.cat([always, *unseen, ranks < threshold], dim=1)


class PermutedImageModelling(TokenPrediction):
    """Two streams through shared weights as one merged pass of 1 + N + T rows: context, targets, queries."""

    mask_tokens = False
    bias: Tensor

    def __init__(self, spec: Pim | Mapet, context: ObjectiveContext) -> None:
        """Take the method and what it trains. Raises InputError if the cutting point leaves nothing to predict."""
        super().__init__(context)
        self.context, self.predicted = spec.context(self.num_patches), spec.predicted(self.num_patches)
        if self.predicted < 1:
            raise InputError(f"objective.cut leaves nothing to predict of {self.num_patches} patches: lower it")
        seen = visible(self.context, self.predicted, self.mask_tokens)
        self.register_buffer("bias", additive(seen), persistent=False)

    def draw(self, samples: int, generator: torch.Generator) -> Chosen:
        """Return a uniformly random order of the patches of every sample."""
        noise = torch.rand(samples, self.num_patches, generator=generator, device=generator.device)
        return Chosen(noise.argsort(dim=1))

    def features(self, patches: Tensor, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """Return features (B, T, width) of the queries, and the targets in rank order, of patches (B, N, width)."""
        targets = chosen.order[:, self.context :]
        content = self.backbone.place(patches, chosen.order)
        unseen = self.backbone.place(self.mask_vector.expand_as(patches), targets)[:, 1:].to(content.dtype)
        known, later = content[:, : 1 + self.context], content[:, 1 + self.context :]
        free = [known, unseen] if self.mask_tokens else [known]
        rows = torch.cat([*free, later, unseen], dim=1)
        streams = Streams(rows.shape[1] - 2 * self.predicted, self.predicted, self.bias)
        return self.backbone.norm(self.backbone.two_streams(rows, streams)), targets


def build(spec: Pim, context: ObjectiveContext) -> PermutedImageModelling:
    """Return the objective for a spec; build its backbone with learned positions."""
    return PermutedImageModelling(spec, context)
