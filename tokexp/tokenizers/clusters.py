"""k-means for samples that fill a machine: points stay where they are, and go to the device chunk by chunk.

Sources: Lloyd 1982; Sculley 2010 for mini-batches (per-centre counts as learning rates). As in the k-means of faiss,
which MaPeT used, a run starts from different random points, several runs are made and the smallest error is kept, and
a centre without points takes over half of the largest cluster. Points may be float16; all sums are float32 or wider.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tokexp.tokenizers.quantizers import nearest_codes

_CHUNK = 1 << 25
"""Most numbers of points that are on the device at once."""

_APART = 1 / 1024
"""How far, relative to the centre, the two halves of a cluster are pushed apart."""


@dataclass(frozen=True)
class Clusters:
    """centres (K, d) float32 on the device; mse: mean squared distance per number; centres that some point chose."""

    centres: Tensor
    mse: float
    used: int


def clusters(
    points: Tensor, num_centres: int, *, rounds: int, restarts: int, seed: int, device: torch.device,
    batch: int | None = None,
) -> Clusters:  # fmt: skip
    """Return the best of several runs of k-means over points (N, d), N >= 1; with `batch`, by mini-batches."""
    best: Clusters | None = None
    for restart in range(restarts):
        draws = torch.Generator().manual_seed((seed + 7919 * restart) % 2**63)
        centres = _start(points, num_centres, draws).to(device)
        if batch is None:
            centres = _lloyd(points, centres, rounds)
        else:
            centres = _mini_batches(points, centres, rounds, batch, draws)
        _, counts, error = _assign(points, centres)
        found = Clusters(centres, error / points.numel(), int((counts > 0).sum()))
        if best is None or found.mse < best.mse:
            best = found
    assert best is not None
    return best


def _start(points: Tensor, num_centres: int, draws: torch.Generator) -> Tensor:
    """Return different points at random, or, of too few, some of them more than once."""
    order = torch.randperm(len(points), generator=draws)
    return points[order.repeat(-(-num_centres // len(points)))[:num_centres]].float()


def _lloyd(points: Tensor, centres: Tensor, rounds: int) -> Tensor:
    before = float("inf")
    for _ in range(rounds):
        sums, counts, error = _assign(points, centres)
        centres = _split(torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], 0.0), counts, centres)
        if error >= before and int((counts > 0).sum()) == len(centres):
            break
        before = error
    return centres


def _split(means: Tensor, counts: Tensor, centres: Tensor) -> Tensor:
    """Return means; a centre without points and the one with most become two halves of that one's cluster."""
    empty = (counts == 0).nonzero().flatten().tolist()
    sizes = counts.clone()
    for place in empty:
        largest = int(sizes.argmax())
        if sizes[largest] < 2:
            means[place] = centres[place]
            continue
        sign = torch.ones_like(means[largest])
        sign[1::2] = -1
        middle = means[largest].clone()
        means[place], means[largest] = middle * (1 + _APART * sign), middle * (1 - _APART * sign)
        sizes[place] = sizes[largest] / 2
        sizes[largest] -= sizes[place]
    return means


def _mini_batches(points: Tensor, centres: Tensor, rounds: int, batch: int, draws: torch.Generator) -> Tensor:
    """Move each centre towards its points of a batch, by one over the number of points that it ever had."""
    seen = torch.zeros(len(centres), device=centres.device)
    for _ in range(rounds):
        chosen = torch.randint(len(points), (min(batch, len(points)),), generator=draws)
        sums, counts, _ = _assign(points[chosen.to(points.device)], centres)
        seen += counts
        step = (sums - counts[:, None] * centres) / seen.clamp_min(1)[:, None]
        centres = centres + torch.where(counts[:, None] > 0, step, 0.0)
    return centres


def _assign(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return each centre's sum (K, d) and number of points (K,), and the sum of squared distances."""
    sums = torch.zeros_like(centres)
    counts = torch.zeros(len(centres), device=centres.device)
    error = 0.0
    for part in points.split(max(1, _CHUNK // points.shape[1])):
        chunk = part.to(centres.device).float()
        places = nearest_codes(chunk, centres)
        sums.index_add_(0, places, chunk)
        counts += torch.bincount(places, minlength=len(centres))
        error += float((chunk - centres[places]).square().sum(dtype=torch.float64))
    return sums, counts, error
