"""Masked token modelling: predict the indices of masked patches (SeiT++ section 3.2, equation 1; MAGE, Li et al. 2023).

Two readings, by fields. The paper's: the encoder sees visible patches only (as MAE), embedded by the codebook, and a
learned vector fills the decoder. The release's: a fixed share of patches is dropped, other masked ones enter the
encoder as mask vectors, tokens have a table of their own, and the encoded class token fills the decoder.
"""

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.objectives.base import Objective, ObjectiveContext, StepOutput
from tokexp.objectives.losses import soft_cross_entropy, top_k_accuracy
from tokexp.objectives.masking import Ranking, dropped_count, rank_patches
from tokexp.objectives.mtm_decoder import MtmDecoder, TiedHead
from tokexp.objectives.token_targets import Embedding, by_patch, cells_per_patch
from tokexp.spec.objectives import Mtm


class MaskedTokenModelling(Objective):
    """Token input, backbone, decoder and head. Metrics: accuracy and mask_ratio, over the masked patches.

    Only masked patches reach the head. Lengths depend on the number of masked patches at most, never on the data.
    """

    draws = True

    def __init__(self, spec: Mtm, context: ObjectiveContext) -> None:
        """Take the method and what it trains. Raises InputError for a model that it cannot train."""
        super().__init__()
        if not isinstance(context.token_input, Embedding):
            raise InputError("objective mtm predicts tokens: it needs model.input: tokens")
        self.spec, self.backbone = spec, context.backbone
        self.token_input: Embedding = context.token_input
        self.cells = cells_per_patch(context.backbone)
        rows, columns = context.backbone.patch_grid
        self.num_patches = rows * columns
        if spec.mask.scheme == "mae" and spec.mask.visible >= self.num_patches:
            raise InputError(
                f"objective.mask.visible ({spec.mask.visible}) must be below the number of patches "
                f"({self.num_patches}), or none is masked"
            )
        self.mask_vector: nn.Parameter | None = None
        if spec.mask.scheme == "mage":
            self.mask_vector = nn.Parameter(torch.zeros(1, 1, context.backbone.width))
        self.decoder = MtmDecoder(spec.decoder, context.backbone.width, self.num_patches)
        table = self.token_input.output_table()
        self.head = TiedHead(self.decoder.width, self.cells[0] * self.cells[1], *table.shape)
        if spec.input == "codebook":
            self.head.start_level(table)

    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the loss of a batch of embeddings (B, d, H, W); ratio and ranks come from `generator`."""
        if batch.values is None:
            raise ValueError("the batch holds indices; look them up first")
        ranking = rank_patches(self.spec.mask, len(batch), self.num_patches, generator)
        return self.step(batch.values, ranking)

    def step(self, values: Tensor, ranking: Ranking) -> StepOutput:
        """Return loss and metrics of values under a ranking of their patches."""
        indices = self.token_input.indices(values)
        targets = self.by_patch(indices).take_along_dim(ranking.order[:, : ranking.masked, None], dim=1).flatten()
        logits = self.logits(values, ranking, indices).flatten(0, 2)
        loss = soft_cross_entropy(logits, targets, self.spec.label_smoothing)
        ratio = torch.full((), ranking.masked / self.num_patches, device=values.device)
        return StepOutput(loss, {"accuracy": top_k_accuracy(logits.detach(), targets), "mask_ratio": ratio})

    def logits(self, values: Tensor, ranking: Ranking, indices: Tensor | None = None) -> Tensor:
        """Return logits (B, masked, slots, K) of the masked patches, in rank order."""
        encoded = self.encode(self.token_input(values, indices), ranking)
        features = self.decoder(encoded, ranking)
        scores: Tensor = self.head(features, self.token_input.output_table())
        return scores

    def encode(self, embeddings: Tensor, ranking: Ranking) -> Tensor:
        """Return (B, 1 + n, width) after the final norm: class token, then the patches that are not dropped."""
        patches = self.backbone.embed(embeddings)
        if self.mask_vector is not None:
            rank_of = ranking.order.argsort(dim=1)
            is_masked = (rank_of < ranking.masked)[:, :, None]
            patches = torch.where(is_masked, self.mask_vector.to(patches.dtype), patches)
        dropped = dropped_count(self.spec.mask, self.num_patches, ranking.masked)
        encoded: Tensor = self.backbone.norm(self.backbone.encode(patches, ranking.order[:, dropped:]))
        return encoded

    def by_patch(self, indices: Tensor) -> Tensor:
        """Return (B, N, slots) of a token grid (B, H, W): patches row by row, and the tokens of each row by row."""
        return by_patch(indices, self.backbone.patch_grid)


def build(spec: Mtm, context: ObjectiveContext) -> MaskedTokenModelling:
    """Return the objective for a spec; build its backbone with positions "sincos"."""
    return MaskedTokenModelling(spec, context)
