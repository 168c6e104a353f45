"""What TokenAdapt's g says of every place, and how that becomes tokens: logits of codes, or coefficients themselves.

Codes: cross-entropy, and the largest logit or the code nearest to the expected vector (SeiT++, equation 2 and its
release). Coefficients have no code for a place, and thousands of levels each: there g gives the vector that the model
would read, is trained by its squared error, and every number goes to its nearest level (own: SeiT++ has figures for
cosine coefficients in table 8, without a word on how).
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from tokexp.tokenizers.base import Codebook


def outputs_of(codebook: Codebook) -> int:
    """Return how many numbers g gives for a place."""
    return len(codebook) if codebook.is_table else codebook.width


def distance(outputs: Tensor, targets: Tensor, codebook: Codebook) -> Tensor:
    """Return the loss () of outputs (B, h x w, n) for target indices (B, h x w), or (B, n, h x w) of coefficients."""
    if codebook.is_table:
        return cross_entropy(outputs.flatten(0, 1), targets.flatten())
    return mse_loss(outputs.transpose(1, 2), codebook.lookup(targets[..., None])[..., 0])


def chosen(outputs: Tensor, codebook: Codebook, grid: tuple[int, int], expected: bool = False) -> Tensor:
    """Return the indices on the grid that outputs (B, h x w, n), float32, stand for.

    expected: of codes, the one nearest to the vector that the logits expect, instead of the likeliest.
    """
    if not codebook.is_table:
        return codebook.nearest(_maps(outputs, grid))
    if not expected:
        return outputs.argmax(-1).view(len(outputs), *grid)
    with torch.autocast(outputs.device.type, enabled=False):
        return codebook.nearest(_maps(outputs.softmax(-1) @ codebook.codes, grid))


def _maps(rows: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return (B, n, *grid) of (B, h x w, n)."""
    return rows.transpose(1, 2).reshape(len(rows), -1, *grid)
