"""Mixup and CutMix as one operation: every map is blended with its partner's by weights that the batch shares.

Partners are by reversal: sample b with B - 1 - b. The weights say how much of a sample is its own at every place: for
Mixup one number, for CutMix 0 inside a box and 1 outside. Targets are mixed by their mean, which is Mixup's weight and
CutMix's share of the area after the box was clipped. Nothing here waits for the device.
Sources: Zhang et al. 2018 (Mixup), Yun et al. 2019 (CutMix), SeiT (both on embedding maps).
"""

from abc import abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from tokexp.augment.base import Augmentation, AugmentContext, embedded, uniform
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


def beta(alpha: float, generator: torch.Generator) -> Tensor:
    """Draw one number () of the symmetric beta distribution, in float32."""
    parameters = torch.full((2,), alpha, device=generator.device, dtype=torch.float32)
    return torch._sample_dirichlet(parameters, generator=generator)[0]


def mixup_weights(size: tuple[int, int], alpha: float, generator: torch.Generator) -> Tensor:
    """Return (H, W) equal weights, beta distributed."""
    return beta(alpha, generator).expand(size)


def cutmix_weights(size: tuple[int, int], alpha: float, generator: torch.Generator) -> Tensor:
    """Return (H, W) weights: 0 within a box of beta-distributed area around a uniform centre, clipped; 1 outside."""
    share = beta(alpha, generator)
    limit = share.new_tensor(size)
    half = (((1 - share).clamp(min=0).sqrt() * limit).floor() / 2).floor()
    centre = (uniform((2,), generator) * limit).floor()
    inside = []
    for axis, length in enumerate(size):
        places = torch.arange(length, device=generator.device)
        inside.append((places >= centre[axis] - half[axis]) & (places < centre[axis] + half[axis]))
    return 1.0 - (inside[0][:, None] & inside[1][None, :]).float()


def sometimes(weights: Tensor, prob: float, generator: torch.Generator) -> Tensor:
    """Return the weights with probability `prob`, else ones, which leave a batch as it is."""
    return torch.where(uniform((), generator) < prob, weights, 1.0)


def blend(batch: Batch, weights: Tensor) -> Batch:
    """Return values w x + (1 - w) x_reversed and targets mixed by the mean of w (H, W). The batch must hold values."""
    values = batch.values
    if values is None:
        raise ValueError("samples are mixed after lookup, not before")
    mixed = torch.lerp(values.flip(0), values, weights.to(values.dtype))
    targets = batch.soft_targets()
    share = weights.double().mean().to(targets.dtype)
    return replace(batch.with_values(mixed), targets=torch.lerp(targets.flip(0), targets, share))


class PairMixing(Augmentation):
    """Blends a batch with its reverse, with the step's probability; what the weights are is a subclass's."""

    def __init__(self, step: spec.Mixup | spec.TokenCutmix, context: AugmentContext) -> None:
        """Take alpha and the probability."""
        self.step = step
        self.context = context

    @abstractmethod
    def weights(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Draw the weights (H, W) of a map with its partner."""

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values of the same shape and soft targets."""
        batch = embedded(batch, self.context)
        assert batch.values is not None
        height, width = batch.values.shape[-2:]
        return blend(batch, sometimes(self.weights((height, width), generator), self.step.prob, generator))
