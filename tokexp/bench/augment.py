"""What augmentation costs: the crop after codebook lookup against SeiT's one-hot way, and images per second by kind.

The one-hot way is SeiT's: per image a one-hot map of K channels, cropped and resized bicubically, and only then, per
batch, multiplied by the codebook. Both ways give the same values. Times are of this machine's CPU, or of its GPU.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tokexp.bench.base import BenchRow, compare, seconds

if TYPE_CHECKING:
    from torch import Generator, Tensor, device

    from tokexp.tokenizers.base import Codebook

CODES, WIDTH, STORED, READ = 391, 32, (32, 32), (28, 28)
"""The sizes of SeiT's tokens on ImageNet-1k."""

SCALE, RATIO = (0.08, 1.0), (0.75, 4 / 3)
"""Ranges of the crop's area and aspect."""

KINDS = ("token_rrc", "token_crop", "token_eda", "emb_noise", "color_adapt", "token_cutmix", "mixup", "token_adapt")
"""What is measured alone, each with the lookup and the centre crop that it needs."""

REPEATS = 50
"""Calls of the fast way per measurement."""

BOUND, GOAL = 20.0, 70.0
"""How much faster lookup first must be, and what is aimed at."""


def rows() -> list[BenchRow]:
    """Measure, within about half a minute on one core."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return [*crop_rows(device), *speed_rows(device)]


def crop_rows(device: device, images: int = 32, rounds: int = 9) -> list[BenchRow]:
    """Compare both ways on the same indices and boxes, A/B/A/B; the ratio is the median of the rounds'."""
    from tokexp.augment.crops import boxes, draw_crops

    generator, codebook, indices = _material(images, device)
    drawn = boxes(draw_crops(images, SCALE, RATIO, generator), *STORED)
    found = compare(
        lambda: _seconds(lambda: _one_hot_way(indices, codebook, drawn), device),
        # Repeated, so that both measurements last about as long and neither pays for the other's memory.
        lambda: _seconds(lambda: [_lookup_way(indices, codebook, drawn) for _ in range(REPEATS)], device) / REPEATS,
        rounds,
    )
    name, holds = "augment/lookup-first crop over one-hot crop", found.value >= BOUND
    return [BenchRow(name, found.value, "x", GOAL, BOUND, holds, found.low, found.high)]


def speed_rows(device: device, images: int = 128) -> list[BenchRow]:
    """Measure images per second of every kind by itself, on 32 x 32 tokens of width 32."""
    import torch

    from tokexp.augment.adapt_networks import AdaptNetworks
    from tokexp.augment.base import AugmentContext
    from tokexp.augment.policy import Policy
    from tokexp.data.base import Batch
    from tokexp.spec.augment import AdaptSpec, AugmentSpec

    generator, codebook, indices = _material(images, device)
    networks = AdaptNetworks(AdaptSpec(), codebook, STORED, READ).to(device)
    context = AugmentContext(READ, codebook, networks)
    batch = Batch(torch.zeros(images, dtype=torch.long, device=device), 10, indices=indices)
    found = []
    for kind in KINDS:
        policy = Policy(AugmentSpec.model_validate([{"kind": kind}]).task, context)
        rounds = 1 if kind == "token_adapt" and device.type == "cpu" else 5
        policy(batch.part(0, 4), generator)
        times = [_seconds(partial(policy, batch, generator), device) for _ in range(rounds)]
        found.append(BenchRow(f"augment/{kind}", images / statistics.median(times), "images/s", None, None, None))
    return found


def _material(images: int, device: device) -> tuple[Generator, Codebook, Tensor]:
    import torch

    from tokexp.tokenizers.base import Codebook

    generator = torch.Generator(device).manual_seed(0)
    codebook = Codebook(torch.randn(CODES, WIDTH, generator=generator, device=device))
    return generator, codebook, torch.randint(CODES, (images, *STORED), generator=generator, device=device)


def _one_hot_way(indices: Tensor, codebook: Codebook, drawn: Tensor) -> Tensor:
    import torch
    from torch.nn import functional as F

    maps = []
    for tokens, box in zip(indices, drawn.int().tolist(), strict=True):
        top, left, height, width = box
        channels = F.one_hot(tokens, CODES).permute(2, 0, 1).float()
        part = channels[None, :, top : top + height, left : left + width]
        maps.append(F.interpolate(part, READ, mode="bicubic", align_corners=False)[0])
    return torch.einsum("bkhw,kd->bdhw", torch.stack(maps), codebook.codes)


def _lookup_way(indices: Tensor, codebook: Codebook, drawn: Tensor) -> Tensor:
    from tokexp.augment.crops import crop_taps, resample_tokens

    return resample_tokens(indices, codebook.codes, *crop_taps(drawn, STORED, READ))


def _seconds(way: Callable[[], object], device: device) -> float:
    import torch

    def finished() -> None:
        way()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return seconds(finished)
