"""What the evaluate stage offers a measure: the trained model standing still, its images, and training on them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from tokexp.augment.policy import Policy
from tokexp.data.base import Batch
from tokexp.engine.loop import Phase, fit
from tokexp.engine.reporting import Stopped
from tokexp.models.base import Backbone
from tokexp.objectives.base import Objective
from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.data import DataSpec
from tokexp.spec.patch_predictions import SpatialInconsistency
from tokexp.spec.train import TrainSpec
from tokexp.stages.assembly import feed_of
from tokexp.stages.base import StageContext
from tokexp.stages.patch_tokens import MorphedTokens, encoder_of

_AT_ONCE = 256


@dataclass
class StandingModel:
    """A model in eval mode without gradients (see tokexp.evaluation.base.Measured)."""

    backbone: Backbone
    token_input: nn.Module
    context: StageContext
    model: BackboneSpec
    data: DataSpec
    policy: Policy

    def __post_init__(self) -> None:
        """Stop the model's training."""
        for module in (self.backbone, self.token_input):
            module.eval().requires_grad_(False)

    def batches(self, split: str) -> Iterator[Batch]:
        """Yield the images of a split as the model reads them, unchanged. Raises Stopped if that was asked for."""
        feed = feed_of(self.context, self.model, self.data, split)
        for start in range(0, feed.num_images, _AT_ONCE):
            if self.context.stop():
                raise Stopped("the evaluation was asked to stop")
            yield self.policy.centre(feed.batch(torch.arange(start, min(start + _AT_ONCE, feed.num_images))))

    def fit(self, objective: Objective, train: TrainSpec, seed: int) -> dict[str, float]:
        """Train an objective on the unchanged training images; return its last metrics."""
        context = self.context
        phase = Phase("evaluate", train, seed, context.device, context.scratch, context.report, context.stop)
        feed = feed_of(context, self.model, self.data, "train")
        return fit(objective, feed, lambda batch, _: self.policy.centre(batch), phase).metrics

    def patch_tokens(self, spec: SpatialInconsistency) -> MorphedTokens:
        """Return what the spec's encoder, or this model's own, makes of patches."""
        encoder = encoder_of(spec, self.context, self.data, self.backbone, self.token_input)
        return MorphedTokens(encoder, spec)

    def keep(self, name: str, arrays: Mapping[str, Any]) -> None:
        """Leave arrays in the stage's output as `name`.npz."""
        np.savez(self.context.output / f"{name}.npz", **arrays)
