"""Linear probe: a linear classifier on frozen, pooled features, for several learning rates at once.

Features of the unaugmented training images are computed once; all classifiers train side by side as one batched
product. The learning rate is chosen on images cut from the training set. Sources: MoCo v3 and MAE (protocol of a
frozen backbone, optional standardisation before the head); the choice by held-out training images is tokexp's.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tokexp.spec.tasks import Probe
from tokexp.tasks.base import DownstreamTask, TaskContext, Trainer
from tokexp.tasks.held_out import held_out

_SPLIT_OFFSET = 7919
"""Added to the seed for the split to choose by, so that it differs from the order of updates."""


class LinearProbe(DownstreamTask):
    """The frozen encoder, the features' mean and deviation, and the chosen linear classifier."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: Probe, context: TaskContext) -> None:
        super().__init__()
        self.spec, self.num_classes = spec, context.num_classes
        self.backbone, self.token_input = context.backbone, context.token_input
        width = context.backbone.width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.head = nn.Linear(width, context.num_classes)
        self.requires_grad_(False)

    def extract(self, values: Tensor) -> Tensor:
        """Return pooled features (B, width), float32."""
        encoded = self.backbone.encode(self.backbone.embed(self.token_input(values)))
        return self.backbone.pool(encoded, self.spec.features).float()

    def logits(self, values: Tensor) -> Tensor:
        """Return (B, classes) scores."""
        return self.head((self.extract(values) - self.mean) / self.std)  # type: ignore[no-any-return]

    def train_with(self, trainer: Trainer) -> dict[str, float]:
        """Fit one classifier for each learning rate, choose by held-out images, keep the best."""
        self.eval()
        features, labels = trainer.features(self.extract)
        if self.spec.normalize:
            self.mean.copy_(features.mean(0))
            self.std.copy_(features.std(0).clamp_min(1e-6))
        features = (features - self.mean) / self.std
        held = held_out(labels, self.spec.select_fraction, trainer.seed + _SPLIT_OFFSET)
        weight, bias = self._fit_all(features[~held], labels[~held], trainer)
        scores = torch.einsum("nd,lcd->lnc", features[held], weight) + bias[:, None]
        accuracy = (scores.argmax(-1) == labels[held]).float().mean(1)
        best = int(accuracy.argmax())
        self.head.weight.copy_(weight[best])
        self.head.bias.copy_(bias[best])
        return {"select_top1": float(accuracy[best]), "lr": self.spec.lrs[best]}

    def _fit_all(self, features: Tensor, labels: Tensor, trainer: Trainer) -> tuple[Tensor, Tensor]:
        """Return weights (rates, classes, width) and biases (rates, classes) after training, cosine schedule."""
        rates = torch.tensor(self.spec.lrs, device=features.device)
        weight = torch.zeros(len(rates), self.num_classes, features.shape[1], device=features.device)
        bias = torch.zeros(len(rates), self.num_classes, device=features.device)
        weight.requires_grad_(True)
        bias.requires_grad_(True)
        # One optimizer with rate 1; each classifier's own rate scales its update (both rules are linear in the rate).
        options = {"lr": 1.0, "weight_decay": self.spec.weight_decay}
        optimizer = (
            torch.optim.AdamW([weight, bias], **options)  # type: ignore[arg-type]
            if self.spec.optimizer == "adamw"
            else torch.optim.SGD([weight, bias], momentum=0.9, **options)  # type: ignore[arg-type]
        )
        size = min(self.spec.batch_size, len(features))
        per_epoch = max(1, len(features) // size)
        total = self.spec.epochs * per_epoch
        for step in range(total):
            if step % per_epoch == 0:
                order = torch.randperm(len(features), generator=torch.Generator().manual_seed(trainer.seed + step))
            chosen = order[step % per_epoch * size :][:size].to(features.device)
            before = weight.detach().clone(), bias.detach().clone()
            with torch.enable_grad():
                scores = torch.einsum("nd,lcd->lnc", features[chosen], weight) + bias[:, None]
                losses = cross_entropy(scores.flatten(0, 1), labels[chosen].repeat(len(rates)), reduction="none").view(
                    len(rates), -1
                )
                optimizer.zero_grad()
                losses.mean(1).sum().backward()
            optimizer.step()
            scale = rates * 0.5 * (1 + math.cos(math.pi * step / total))
            with torch.no_grad():
                weight.copy_(before[0] + scale[:, None, None] * (weight - before[0]))
                bias.copy_(before[1] + scale[:, None] * (bias - before[1]))
            trainer.progress(step + 1, total, "steps")
        return weight.detach(), bias.detach()


def build(spec: Probe, context: TaskContext) -> LinearProbe:
    """Return the task for a spec."""
    return LinearProbe(spec, context)
