"""How many patches are masked, and which: one ratio for a micro-batch from a truncated normal (MAGE, Li et al. 2023).

Patches are ranked by uniform noise, per sample. Everything that follows works in rank order: the first `masked` ranks
are predicted, so which ranks are masked is the same for all samples, and lengths never depend on the data.
"""

import math
from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist

import torch
from torch import Tensor

from tokexp.spec.objectives import MaskSpec

_INSIDE = 1e-12
"""How far from 0 and 1 probabilities stay, so that their normal quantiles are finite."""


@dataclass(frozen=True)
class Ranking:
    """Patches by rank. order: (B, N) int64, the patch of every rank. masked: how many ranks, from 0, are predicted."""

    order: Tensor
    masked: int


def ratio_at(spec: MaskSpec, uniform: float) -> float:
    """Return the ratio at a quantile in [0, 1) of N(mean, std) truncated to [low, high], by the inverse CDF."""
    normal = NormalDist(spec.mean, spec.std)
    below, above = normal.cdf(spec.low), normal.cdf(spec.high)
    quantile = min(max(below + uniform * (above - below), _INSIDE), 1 - _INSIDE)
    return min(max(normal.inv_cdf(quantile), spec.low), spec.high)


def masked_count(spec: MaskSpec, num_patches: int, ratio: float) -> int:
    """Return how many of N patches are masked: ceil(N ratio), at least 1; scheme mae keeps `visible` of them out."""
    count = max(1, _ceil(num_patches * ratio))
    return min(count, num_patches - spec.visible) if spec.scheme == "mae" else count


def dropped_count(spec: MaskSpec, num_patches: int, masked: int) -> int:
    """Return how many ranks the encoder never sees: all masked ones (mae), or ceil(N drop) whatever the ratio."""
    return masked if spec.scheme == "mae" else min(masked, _ceil(num_patches * spec.drop))


def draw_ratio(spec: MaskSpec, generator: torch.Generator) -> float:
    """Draw a ratio without waiting for a device.

    On a CPU the generator is used as it is. Reading a number back from another device would stall it; there the
    generator's state, which the host holds, keys a draw, and the noise drawn after it moves that state on.
    """
    if generator.device.type == "cpu":
        return ratio_at(spec, float(torch.rand((), generator=generator, dtype=torch.float64)))
    digest = blake2b(generator.get_state().cpu().numpy().tobytes(), digest_size=8).digest()
    return ratio_at(spec, int.from_bytes(digest, "big") / 2**64)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def rank_patches(spec: MaskSpec, samples: int, num_patches: int, generator: torch.Generator) -> Ranking:
    """Draw the ratio of a micro-batch and the rank of every patch, on the generator's device."""
    masked = masked_count(spec, num_patches, draw_ratio(spec, generator))
    noise = torch.rand(samples, num_patches, generator=generator, device=generator.device)
    return Ranking(noise.argsort(dim=1), masked)


def _ceil(share: float) -> int:
    # 100 * 0.07 is a little above 7 in floating point.
    return math.ceil(share - 1e-9)
