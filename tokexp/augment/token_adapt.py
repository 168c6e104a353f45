"""TokenAdapt: pixel geometry for stored tokens (SeiT++ section 3.3, equations 2 and 3).

Codes go through f into a space where flips, affine maps and crops mean what they mean for pixels; there they are
changed, and mixed where asked for; g takes the result back to codes. The networks are trained by the stage `adapt`
and are never trained here.
"""

from typing import cast

import torch
from torch import Tensor

from tokexp.augment import geometry
from tokexp.augment.adapt_networks import AdaptNetworks
from tokexp.augment.adapt_outputs import chosen
from tokexp.augment.base import Augmentation, AugmentContext, embedded, uniform
from tokexp.augment.mixing import blend, cutmix_weights, mixup_weights
from tokexp.data.base import Batch
from tokexp.spec import augment as spec
from tokexp.tokenizers.base import Codebook


class TokenAdapt(Augmentation):
    """Embeddings on the stored grid to codebook rows on the model's grid, geometrically augmented."""

    def __init__(self, step: spec.TokenAdapt, codebook: Codebook, networks: AdaptNetworks) -> None:
        """Take the step, the codebook of its results, and trained networks."""
        self.step = step
        self.context = AugmentContext(networks.model_grid, codebook)
        self.codebook = codebook
        self.networks = networks.eval()

    @torch.no_grad()
    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return values (B, d, *model grid), all of them codes; soft targets if maps were mixed."""
        batch = embedded(batch, self.context)
        assert batch.values is not None
        space = self.networks.to_space(batch.values).float()
        drawn = geometry.draw(self.step.geometry, len(batch), generator)
        size = self.networks.space_size
        batch = batch.with_values(geometry.apply(space, drawn, size))
        if self.step.mixup or self.step.cutmix:
            batch = blend(batch, self._weights(size, generator))
        assert batch.values is not None
        indices = self._quantized(self.networks.to_logits(batch.values).float())
        return batch.with_values(self.codebook.lookup(indices))

    def _weights(self, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        mixup, cutmix = self.step.mixup, self.step.cutmix
        if not cutmix:
            return mixup_weights(size, mixup, generator)
        boxed = cutmix_weights(size, cutmix, generator)
        if not mixup:
            return boxed
        even = mixup_weights(size, mixup, generator)
        return torch.where(uniform((), generator) < self.step.switch_prob, boxed, even)

    def _quantized(self, logits: Tensor) -> Tensor:
        """Return indices on the models' grid of logits (B, rows x columns, K), or of coefficients."""
        return chosen(logits, self.codebook, self.networks.model_grid, self.step.quantize == "nearest")


def build(step: spec.TokenAdapt, context: AugmentContext) -> TokenAdapt:
    """Return the augmentation of a step. Raises ValueError without a codebook or trained networks."""
    if context.codebook is None:
        raise ValueError("token_adapt works on tokens, and this experiment reads pixels: take it out of the policy")
    if context.adapt is None:
        raise ValueError("token_adapt needs the trained networks of the stage `adapt`, and none were given")
    return TokenAdapt(step, context.codebook, cast(AdaptNetworks, context.adapt))
