"""Losses that objectives share, computed in float32 whatever the precision of the model."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def soft_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean over samples of -sum_c t_c log softmax(logits)_c (scalar, float32).

    logits: (B, C). targets: (B, C) rows that sum to 1, or (B,) int64 classes. smoothing: t becomes
    (1 - smoothing) t + smoothing / C (Szegedy et al. 2016).
    """
    with torch.autocast(logits.device.type, enabled=False):
        soft = targets if targets.dtype == torch.int64 else targets.float()
        return cross_entropy(logits.float(), soft, label_smoothing=smoothing)


def top_k_accuracy(logits: Tensor, classes: Tensor, k: int = 1) -> Tensor:
    """Return the share (scalar, float32) of samples whose class (B,) is among the k highest of logits (B, C).

    k above C counts every sample as right.
    """
    chosen = logits.topk(min(k, logits.shape[-1]), dim=-1).indices
    return (chosen == classes[:, None]).any(-1).float().mean()


def chosen_cross_entropy(logits: Tensor, classes: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy and the accuracy (scalars, float32; the accuracy without gradient) of some cells.

    logits: (..., C). classes: (...) int64. counted: (...) bool, the cells that count. Nothing is selected by it, so
    that shapes do not depend on the data; with no cell at all the loss is 0.
    """
    flat, wanted, weights = logits.flatten(0, -2), classes.flatten(), counted.flatten().float()
    total = weights.sum().clamp_min(1.0)
    with torch.autocast(logits.device.type, enabled=False):
        losses = cross_entropy(flat.float(), wanted, reduction="none")
    right = (flat.detach().argmax(-1) == wanted).float()
    return (losses * weights).sum() / total, (right * weights).sum() / total
