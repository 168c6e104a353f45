"""Masked autoencoding (He et al. 2022, MAE), of pixels or of stored tokens' embeddings.

The encoder sees visible patches only, a light decoder all places. Loss: mean squared error of the masked patches'
content, normalised within each patch. Kim et al. 2024 (DTM, table 3) predict a target's morphed tokens from the
decoder's output at every patch; with `reconstruct: false` that is the only loss, as there.
"""

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.objectives.base import Objective, ObjectiveContext, StepOutput
from tokexp.objectives.mae_decoder import PatchDecoder
from tokexp.objectives.morphing.term import MorphingLoss
from tokexp.spec.masked_autoencoding import Mae

_EPS = 1e-6


def patch_content(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return (B, N, C x height x width) of values (B, C, H, W): what lies in every patch, patches row by row."""
    (rows, columns), (samples, channels, height, width) = grid, values.shape
    cells = values.reshape(samples, channels, rows, height // rows, columns, width // columns)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def standardised(content: Tensor) -> Tensor:
    """Return rows (..., d) with mean 0 and deviation 1 (unbiased, as the release has it); constants become 0."""
    centred = content - content.mean(-1, keepdim=True)
    return centred / (centred.square().sum(-1, keepdim=True) / max(1, content.shape[-1] - 1) + _EPS).sqrt()


class MaskedAutoencoding(Objective):
    """Backbone, token input, decoder and heads. Metrics: the parts of the loss where there are two."""

    draws = True

    def __init__(self, spec: Mae, context: ObjectiveContext) -> None:
        """Take the method and what it trains. Raises InputError for patches that do not tile what the model reads."""
        super().__init__()
        self.spec, self.backbone, self.token_input = spec, context.backbone, context.token_input
        self.grid = context.backbone.patch_grid
        self.num_patches = self.grid[0] * self.grid[1]
        self.visible = self.num_patches - spec.predicted(self.num_patches)
        content = context.backbone.in_channels * _cells(context.backbone.input_grid, self.grid)
        self.decoder = PatchDecoder(spec.decoder, context.backbone)
        self.head = nn.Linear(spec.decoder.width, content) if spec.reconstruct else None
        self.term = None if spec.dtm is None else MorphingLoss(spec.dtm, context, spec.decoder.width)

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the loss of a batch of embeddings or pixels (B, C, H, W)."""
        if batch.values is None:
            raise ValueError("the batch holds indices; look them up first")
        order = self.draw(len(batch), generator)
        features = self.features(batch.values, order)
        parts, metrics = dict[str, Tensor](), dict[str, Tensor]()
        if self.head is not None:
            parts["reconstruction"] = self.reconstruction(features, batch.values, order)
        if self.term is not None and self.spec.dtm is not None:
            morphing = self.term.loss(features, self.term.morphed(batch.values, generator))
            parts["morphing"] = morphing.loss * self.spec.dtm.weight
            metrics |= morphing.metrics
        metrics |= {name: value.detach() for name, value in parts.items()}
        return StepOutput(torch.stack(list(parts.values())).sum(), metrics)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def draw(self, samples: int, generator: torch.Generator) -> Tensor:
        """Return the patches (B, N) of every sample in random order; the first `visible` are seen."""
        return torch.rand(samples, self.num_patches, generator=generator, device=generator.device).argsort(dim=1)

    def features(self, values: Tensor, order: Tensor) -> Tensor:
        """Return the decoder's features (B, N, width) of all patches in raster order."""
        patches = self.backbone.embed(self.token_input(values))
        encoded = self.backbone.norm(self.backbone.encode(patches, order[:, : self.visible]))
        decoded: Tensor = self.decoder(encoded, order.argsort(dim=1))
        return decoded

    def reconstruction(self, features: Tensor, values: Tensor, order: Tensor) -> Tensor:
        """Return the mean squared error (scalar, float32) of what the model reads, over masked patches.

        That is pixels as they are normalised, or the vectors of stored tokens' codes.
        """
        assert self.head is not None
        hidden = order[:, self.visible :, None]
        wanted = patch_content(self.token_input(values).float(), self.grid).take_along_dim(hidden, dim=1)
        with torch.autocast(values.device.type, enabled=False):
            wanted = standardised(wanted) if self.spec.standardise else wanted
        predicted = self.head(features.take_along_dim(hidden, dim=1))
        error: Tensor = (predicted.float() - wanted).square().mean()
        return error

    def after_step(self) -> None:
        """Let a moving average follow."""
        if self.term is not None:
            self.term.follow(self.backbone, self.token_input)

    def undecayed(self) -> set[str]:
        """Return the class token, the positions, and the decoder's vector of masked places, as MAE's release does."""
        return {"backbone.class_token", "backbone.positions", "decoder.fill", "decoder.positions"}


def _cells(input_grid: tuple[int, int], grid: tuple[int, int]) -> int:
    if input_grid[0] % grid[0] or input_grid[1] % grid[1]:
        raise InputError(f"mae predicts what lies in a patch: {grid} patches must tile the grid {input_grid}")
    return input_grid[0] // grid[0] * (input_grid[1] // grid[1])


def build(spec: Mae, context: ObjectiveContext) -> MaskedAutoencoding:
    """Return the objective for a spec; build its backbone with positions "sincos"."""
    return MaskedAutoencoding(spec, context)
