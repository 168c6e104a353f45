"""A discriminator of patches, and how its loss is weighed against the others (Esser et al. 2021, VQGAN).

The network is Isola et al. 2017's (pix2pix, section 3.2 and appendix 6.1.2). Its norms are over groups of channels
instead of the batch, so that neither micro-batches nor processes change the result.
"""

from math import gcd
from typing import Final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import relu

from tokexp.spec.tokenizers import Adversarial

_GROUPS: Final = 32
_MOST: Final = 8
"""Largest factor of the width."""

FLOOR: Final = 1e-4
"""Added to the denominator of the adaptive weight, as in the released code (the paper's delta is 1e-6)."""

CEILING: Final = 1e4
"""Largest adaptive weight, as in the released code."""


class PatchDiscriminator(nn.Module):
    """Judges every patch of pictures (B, C, H, W): real is above 0."""

    def __init__(self, channels: int, spec: Adversarial) -> None:
        """Take the pictures' channels; weights start as N(0, 0.02)."""
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(channels, spec.width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        width = spec.width
        for number in range(1, spec.layers + 1):
            wider = spec.width * min(2**number, _MOST)
            stride = 2 if number < spec.layers else 1
            layers += [nn.Conv2d(width, wider, 4, stride, padding=1, bias=False)]
            layers += [nn.GroupNorm(gcd(_GROUPS, wider), wider), nn.LeakyReLU(0.2)]
            width = wider
        self.body = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, padding=1))
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.02)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return logits (B, 1, h, w)."""
        out: Tensor = self.body(pictures)
        return out


def deceiving(discriminator: nn.Module, pictures: Tensor) -> Tensor:
    """Return the generator's loss, -mean D(pictures); its gradient passes through D but never to D's weights."""
    frozen = {name: value.detach() for name, value in discriminator.named_parameters()}
    out: Tensor = -functional_call(discriminator, frozen, (pictures,)).mean()
    return out


def judging(discriminator: nn.Module, real: Tensor, made: Tensor) -> Tensor:
    """Return the discriminator's hinge loss, (mean max(0, 1 - D(real)) + mean max(0, 1 + D(made))) / 2."""
    logits = discriminator(torch.cat([real, made]).detach())
    return 0.5 * (relu(1 - logits[: len(real)]).mean() + relu(1 + logits[len(real) :]).mean())


def adaptive_weight(reconstruction: Tensor, deception: Tensor, last: Tensor) -> Tensor:
    """Return |grad of the reconstruction| / (|grad of the deception| + FLOOR) at the decoder's last weights `last`."""
    strength = [torch.autograd.grad(loss, last, retain_graph=True)[0].norm() for loss in (reconstruction, deception)]
    ratio: Tensor = strength[0] / (strength[1] + FLOOR)
    return ratio.clamp(0, CEILING).detach()
