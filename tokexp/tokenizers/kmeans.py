"""k-means by Lloyd's rounds from a k-means++ start, chunk by chunk, the same for the same seed.

Sources: Lloyd 1982; Arthur and Vassilvitskii 2007 (start, with several candidates per step as in their section 5).
"""

from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor

from tokexp.tokenizers.quantizers import nearest_codes

_START_POINTS = 20_000
_START_PER_CODE = 8
_SAME = 1e-6


@dataclass(frozen=True)
class KMeansResult:
    """centres (K, d) float32; mse: mean squared distance per number; rounds made; centres that some point chose."""

    centres: Tensor
    mse: float
    rounds: int
    used: int


def kmeans(points: Tensor, num_centres: int, rounds: int, seed: int) -> KMeansResult:
    """Return centres of points (N, d), N >= 1. With fewer different points than centres, some centres are equal."""
    centres = _start(points, num_centres, np.random.PCG64(seed))
    places = nearest_codes(points, centres)
    made = 0
    while made < rounds:
        made += 1
        centres = _means(points, places, centres)
        moved = nearest_codes(points, centres)
        settled = bool((moved == places).all())
        places = moved
        if settled:
            break
    error = (points - centres[places]).square().mean().double()
    return KMeansResult(centres, float(error), made, len(places.unique()))


def _start(points: Tensor, num_centres: int, bits: np.random.PCG64) -> Tensor:
    """k-means++: each next centre is drawn by squared distance; of a few candidates the best is taken."""
    most = max(_START_POINTS, _START_PER_CODE * num_centres)
    if len(points) > most:
        chosen = np.sort(np.argsort(bits.random_raw(len(points)), kind="stable")[:most])
        points = points[torch.from_numpy(chosen).to(points.device)]
    candidates = 2 + int(log(num_centres))
    first = int(_uniform(bits, 1)[0] * len(points))
    centres = points.new_empty((num_centres, points.shape[1]))
    centres[0] = points[first]
    norms = points.square().sum(1)
    distance = _distances(points, norms, torch.tensor([first], device=points.device))[:, 0]
    for number in range(1, num_centres):
        total = distance.double().cumsum(0)
        if float(total[-1]) <= 0:
            # No different point is left.
            centres[number:] = centres[torch.arange(num_centres - number, device=points.device) % number]
            break
        marks = torch.from_numpy(_uniform(bits, candidates)).to(total) * total[-1]
        drawn = torch.searchsorted(total, marks, right=True).clamp_max(len(points) - 1)
        reach = _distances(points, norms, drawn).minimum(distance[:, None])
        best = int(reach.sum(0, dtype=torch.float64).argmin())
        centres[number], distance = points[drawn[best]], reach[:, best].contiguous()
    return centres


def _distances(points: Tensor, norms: Tensor, places: Tensor) -> Tensor:
    """Return squared distances (N, n) to the points at `places`; 0 below what float32 can tell from equal."""
    scale = norms[:, None] + norms[places]
    distance = scale - 2 * (points @ points[places].T)
    return torch.where(distance > _SAME * scale, distance, 0.0)


def _means(points: Tensor, places: Tensor, centres: Tensor) -> Tensor:
    """Return the mean of every centre's points; a centre without points goes to a point far from its own centre."""
    counts = torch.bincount(places, minlength=len(centres))
    sums = torch.zeros_like(centres, dtype=torch.float64).index_add_(0, places, points.double())
    means = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centres.double()).float()
    empty = (counts == 0).nonzero().flatten()
    if len(empty):
        distance = (points - means[places]).square().sum(1)
        far = distance.argsort(descending=True, stable=True)[: len(empty)]
        far = far[distance[far] > 0]
        means[empty[: len(far)]] = points[far]
    return means


def _uniform(bits: np.random.PCG64, count: int) -> np.ndarray:
    """Return float64 numbers in [0, 1) from raw words, which numpy promises never to change."""
    words: np.ndarray = (np.atleast_1d(bits.random_raw(count)) >> np.uint64(11)) * 2.0**-53
    return words
