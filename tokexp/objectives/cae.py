"""CAE, the context autoencoder (Chen et al. 2022): predict the encoder's own output for hidden patches, then tokens.

The encoder sees visible patches alone. A regressor turns one learned vector at every hidden patch into what the encoder
would have given for it; a decoder of self-attention over these predictions alone leads to their tokens.

    loss = mean over hidden patches of -log p(token) + weight * mean squared (prediction - encoder(hidden patches))

The encoder's output for the hidden patches, which it then sees without the visible ones, is without gradient. The
blocks are in `cae_neck`, the masks in `block_masks`; with `blocks.exact` off a sample counts what its blocks came to,
and what is hidden beyond that, to keep shapes, is neither seen nor counted.
"""

import torch
from torch import Tensor, nn

from tokexp.objectives.base import ObjectiveContext, StepOutput
from tokexp.objectives.block_masks import block_order
from tokexp.objectives.cae_neck import RegressorAndDecoder, neck_shape
from tokexp.objectives.targets.momentum import MomentumEncoder
from tokexp.objectives.token_prediction import Chosen, TokenPrediction
from tokexp.spec.context_autoencoding import Cae


class LaggedCopy(nn.Module):
    """The encoder as it was before the last update, as the release has it by copying after use."""

    def __init__(self, context: ObjectiveContext) -> None:
        """Take what is copied."""
        super().__init__()
        self.used = MomentumEncoder(context.backbone, context.token_input, 0.0)
        self.next = MomentumEncoder(context.backbone, context.token_input, 0.0)

    def follow(self, *students: nn.Module) -> None:
        """Take the weights of the update before this one, and keep those of this one."""
        self.used.follow(self.next.backbone, self.next.token_input)
        self.next.follow(*students)

    def forward(self, values: Tensor, kept: Tensor) -> Tensor:
        """Return (B, 1 + n, width) after the final norm, of values with the patches `kept` (B, n) alone."""
        backbone = self.used.backbone
        encoded: Tensor = backbone.norm(backbone.encode(backbone.embed(self.used.token_input(values)), kept))
        return encoded


class ContextAutoencoding(TokenPrediction):
    """Backbone, token input, regressor, decoder and head.

    Metrics: those of token prediction; cross_entropy and alignment, the two parts before the weight.
    """

    def __init__(self, spec: Cae, context: ObjectiveContext) -> None:
        """Take the method and what it trains. Raises InputError for a neck that does not fit the encoder."""
        super().__init__(context, neck_shape(spec.neck, context.backbone.width)[0])
        self.spec, self.masked = spec, spec.predicted(self.num_patches)
        self.neck = RegressorAndDecoder(spec.neck, context.backbone, spec.drop_path)
        self.lagged = LaggedCopy(context) if spec.align_to == "lagged_copy" and spec.align_weight else None

    def draw(self, samples: int, generator: torch.Generator) -> Chosen:
        """Return the order of the patches, those in blocks first, and how many these are where they may differ."""
        blocks = self.spec.blocks
        order, counts = block_order(blocks, self.masked, samples, self.backbone.patch_grid, generator)
        return Chosen(order, None if blocks.exact else counts.clamp(max=self.masked))

    def step(self, values: Tensor, target_indices: Tensor | None, chosen: Chosen) -> StepOutput:
        """Return both losses' sum and metrics of values under a choice of patches."""
        targets = self.targets(values, target_indices)
        patches = self.embed(values, targets)
        latents, hidden = self.latents(patches, chosen), chosen.order[:, : self.masked]
        output = self.compared(self.neck.decode(latents, hidden), hidden, targets, chosen)
        if not self.spec.align_weight:
            return output
        alignment = self.alignment(latents, self.wanted(values, patches, hidden), chosen)
        parts = {"cross_entropy": output.loss.detach(), "alignment": alignment.detach()}
        return StepOutput(output.loss + self.spec.align_weight * alignment, output.metrics | parts)

    def features(self, patches: Tensor, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """Return the decoder's features (B, masked, D) and the masked patches, of patches (B, N, width)."""
        hidden = chosen.order[:, : self.masked]
        return self.neck.decode(self.latents(patches, chosen), hidden), hidden

    def latents(self, patches: Tensor, chosen: Chosen) -> Tensor:
        """Return the regressor's predictions (B, masked, D) for the masked patches."""
        encoded = self.backbone.norm(self.backbone.encode(patches, chosen.order[:, self.masked :]))
        return self.neck.regress(encoded[:, 1:], self.mask_vector, chosen.order)

    @torch.no_grad()
    def wanted(self, values: Tensor, patches: Tensor, hidden: Tensor) -> Tensor:
        """Return what the encoder (or its lagged copy) gives for the masked patches (B, masked) alone: (B, masked, D).

        Stochastic depth is active in the encoder itself, as in the release, and never in the copy.
        """
        if self.lagged is None:
            encoded = self.backbone.norm(self.backbone.encode(patches, hidden))
        else:
            encoded = self.lagged(values, hidden)
        entered: Tensor = self.neck.enter(encoded[:, 1:])
        return entered

    def alignment(self, latents: Tensor, wanted: Tensor, chosen: Chosen) -> Tensor:
        """Return the mean squared error (scalar, float32) over the masked patches that count; 0 if none does."""
        with torch.autocast(latents.device.type, enabled=False):
            errors = (latents.float() - wanted.float()).square().mean(-1)
            if chosen.counts is None:
                return errors.mean()
            counted = torch.arange(errors.shape[1], device=errors.device) < chosen.counts[:, None]
            return (errors * counted).sum() / counted.sum().clamp_min(1)

    def after_step(self) -> None:
        """Let the copy follow."""
        if self.lagged is not None:
            self.lagged.follow(self.backbone, self.token_input)


def build(spec: Cae, context: ObjectiveContext) -> ContextAutoencoding:
    """Return the objective for a spec; build its backbone with positions "sincos"."""
    return ContextAutoencoding(spec, context)
