"""ColorAdapt: a sample takes the per-channel mean and deviation of another (SeiT++ equation 4).

x' = s_p (x - m) / (s + eps) + m_p with means m and unbiased deviations s over the map, in float32. The released code
has no eps and gives NaN for a flat channel; here such a channel takes the partner's mean whatever eps is.
"""

import torch
from torch import Tensor

from tokexp.augment.base import Augmentation, AugmentContext, embedded
from tokexp.augment.subset import partners, touched
from tokexp.data.base import Batch
from tokexp.spec import augment as spec


def adapt_statistics(values: Tensor, partner: Tensor, eps: float) -> Tensor:
    """Return values (B, C, H, W) with the statistics of the samples at positions `partner` (B,)."""
    mean = values.mean((2, 3), keepdim=True)
    deviation = (values - mean).square().sum((2, 3), keepdim=True)
    deviation = (deviation / max(values.shape[2] * values.shape[3] - 1, 1)).sqrt()
    # A flat channel's deviation is rounding noise or zero, so its flatness is asked for, not derived from it.
    flat = values.amax((2, 3), keepdim=True) == values.amin((2, 3), keepdim=True)
    deviation = torch.where(flat, 0, deviation)
    gain = torch.where(flat, 0, deviation[partner] / (torch.where(flat, 1, deviation) + eps))
    return (values - mean) * gain + mean[partner]


class ColorAdapt(Augmentation):
    """Gives some samples another sample's channel statistics; the others stay bit for bit."""

    def __init__(self, step: spec.ColorAdapt, context: AugmentContext) -> None:
        """Take share, partner rule and eps."""
        self.step = step
        self.context = context

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values of the same shape."""
        batch = embedded(batch, self.context)
        values = batch.values
        assert values is not None
        chosen = touched(len(batch), self.step.prob, self.step.subset, generator)
        partner = partners(len(batch), self.step.partner, generator)
        adapted = adapt_statistics(values, partner, self.step.eps)
        return batch.with_values(torch.where(chosen[:, None, None, None], adapted, values))


def build(step: spec.ColorAdapt, context: AugmentContext) -> ColorAdapt:
    """Return the augmentation of a step."""
    return ColorAdapt(step, context)
