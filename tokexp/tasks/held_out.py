"""Training images that a task is not trained on, to choose by, and how a model does on them.

Test images choose nothing: a learning rate, a pruned trial or the best trial of a search is judged on these.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tokexp.data.base import Batch


def held_out(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Return a mask (N,) of a share of each class of labels (N,), drawn from the seed; at least one image is held out.

    The share is rounded in each class, so classes of fewer images than half of 1 / fraction are trained on whole.
    """
    draws = torch.rand(len(labels), generator=torch.Generator().manual_seed(seed))
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique().tolist():
        members = (labels.cpu() == label).nonzero()[:, 0]
        count = round(len(members) * fraction)
        held[members[draws[members].argsort()[:count]]] = True
    if not held.any():
        held[int(draws.argmax())] = True
    return held.to(labels.device)


def measure(logits: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> dict[str, float]:
    """Return val_top1, the share of images whose class is met, and val_loss, the mean cross-entropy without smoothing.

    logits: from values (B, C, H, W) to (B, classes) scores. Draws nothing; the model must be in eval mode.
    """
    right = loss = 0.0
    count = 0
    with torch.no_grad():
        for batch in batches:
            assert batch.values is not None
            scores = logits(batch.values).float()
            right += float((scores.argmax(-1) == batch.labels).sum())
            loss += float(cross_entropy(scores, batch.labels, reduction="sum"))
            count += len(batch.labels)
    return {"val_top1": right / count, "val_loss": loss / count}
