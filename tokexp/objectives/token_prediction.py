"""What `mim`, `beit`, `pim`, `mapet` and `cae` share: targets that are tokens, a linear head, and cross-entropy.

Source: Baraldi et al. 2023 (MaPeT), which compares these objectives on one transformer: absolute positions, the final
norm, then one linear layer over the codes. A patch that holds several tokens gets one such layer for each.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.objectives.base import Objective, ObjectiveContext, StepOutput
from tokexp.objectives.losses import chosen_cross_entropy
from tokexp.objectives.token_targets import Embedding, by_patch, cells_per_patch

INIT_STD = 0.02


@dataclass(frozen=True)
class Chosen:
    """What a method drew for a micro-batch: `order` (B, N) int64, the patch of every rank, of which it predicts some.

    counts: (B,) int64, how many of the predicted ones, from the first, count in the loss where that differs from
    sample to sample; None if all do.
    """

    order: Tensor
    counts: Tensor | None = None


class TokenPrediction(Objective):
    """Backbone, token input and head. Metrics: accuracy and target_ratio, of the predicted tokens.

    Shapes depend on the model and the spec alone: nothing is compiled again as masks vary.
    """

    draws = True

    def __init__(self, context: ObjectiveContext, width: int | None = None) -> None:
        """Take what is trained, and the width of features and mask vector (the backbone's if not given).

        Raises InputError for a model that has no tokens to predict.
        """
        super().__init__()
        self.backbone, self.token_input = context.backbone, context.token_input
        rows, columns = context.backbone.patch_grid
        self.num_patches = rows * columns
        self.reads_tokens = isinstance(context.token_input, Embedding)
        if self.reads_tokens:
            assert context.codebook is not None
            down, across = cells_per_patch(context.backbone)
            self.slots, self.codes = down * across, len(context.codebook)
        elif context.target_codes is not None:
            self.slots, self.codes = 1, context.target_codes
        else:
            raise InputError("this objective predicts tokens: the experiment needs a tokenizer")
        width = width or context.backbone.width
        self.head = nn.Linear(width, self.slots * self.codes)
        nn.init.normal_(self.head.weight, std=INIT_STD)
        nn.init.zeros_(self.head.bias)
        self.mask_vector = nn.Parameter(torch.empty(1, 1, width))
        nn.init.normal_(self.mask_vector, std=INIT_STD)

    @abstractmethod
    def draw(self, samples: int, generator: torch.Generator) -> Chosen:
        """Draw which patches are predicted, on the generator's device."""

    @abstractmethod
    def features(self, patches: Tensor, chosen: Chosen) -> tuple[Tensor, Tensor]:
        """Return features (B, m, width) after the final norm, and the patches (B, m) that they are to predict.

        `patches`: (B, N, width) of the stem, before positions are added.
        """

    # Generators cannot be traced: what draws stays outside of what is compiled, and `step` is compiled whole.
    @torch.compiler.disable(recursive=False)  # type: ignore[untyped-decorator]
    def forward(self, batch: Batch, generator: torch.Generator) -> StepOutput:
        """Return the loss of a batch of embeddings or pixels (B, C, H, W)."""
        if batch.values is None:
            raise ValueError("the batch holds indices; look them up first")
        return self.step(batch.values, batch.target_indices, self._drawn(len(batch), generator))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _drawn(self, samples: int, generator: torch.Generator) -> Chosen:
        return self.draw(samples, generator)

    def step(self, values: Tensor, target_indices: Tensor | None, chosen: Chosen) -> StepOutput:
        """Return loss and metrics of values under a choice of patches; targets (B, rows, columns) beside pixels."""
        targets = self.targets(values, target_indices)
        features, predicted = self.features(self.embed(values, targets), chosen)
        return self.compared(features, predicted, targets, chosen)

    def compared(self, features: Tensor, predicted: Tensor, targets: Tensor, chosen: Chosen) -> StepOutput:
        """Return loss and metrics of features (B, m, D) that predict the tokens of the patches `predicted` (B, m)."""
        logits = self.head(features).unflatten(-1, (self.slots, self.codes))
        wanted = by_patch(targets, self.backbone.patch_grid).take_along_dim(predicted[:, :, None], dim=1)
        counted = torch.ones_like(wanted, dtype=torch.bool)
        if chosen.counts is not None:
            ranks = torch.arange(predicted.shape[1], device=predicted.device)
            counted = (ranks < chosen.counts[:, None])[:, :, None].expand_as(wanted)
        loss, accuracy = chosen_cross_entropy(logits, wanted, counted)
        ratio = counted.float().mean() * predicted.shape[1] / self.num_patches
        return StepOutput(loss, {"accuracy": accuracy, "target_ratio": ratio})

    def targets(self, values: Tensor, target_indices: Tensor | None) -> Tensor:
        """Return the tokens to predict, int64: of the model's grid (B, H, W), or of its patches beside pixels."""
        if self.reads_tokens:
            found: Tensor = self.token_input.indices(values)  # type: ignore[operator]
            return found
        if target_indices is None:
            raise ValueError("a batch of pixels needs the tokens that are to be predicted")
        if target_indices.shape[1:] != torch.Size(self.backbone.patch_grid):
            raise InputError(
                f"the tokenizer's grid {tuple(target_indices.shape[1:])} is not that of the patches, "
                f"{self.backbone.patch_grid}: choose tokenizer and stem so that a patch is a token"
            )
        return target_indices

    def embed(self, values: Tensor, targets: Tensor) -> Tensor:
        """Return patches (B, N, width), before positions are added."""
        embeddings = self.token_input(values, targets) if self.reads_tokens else self.token_input(values)
        return self.backbone.embed(embeddings)

    def undecayed(self) -> set[str]:
        """Return the class token and any table of positions; the mask vector is decayed, as MaPeT's release does."""
        return {f"backbone.{name}" for name in self.backbone.undecayed()}
