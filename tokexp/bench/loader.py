"""What loading tokens costs: the resident batch against a plain reader and SeiT's one-hot reader, and against a step.

The plain reader is what most code does: per image, cut its bytes out of the blob, undo SeiT's escapes in Python,
reshape, and stack. The one-hot reader then makes a map of as many channels as codes and crops and resizes it
bicubically, as SeiT's does. All three give images of 1,024 tokens of 391 codes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tokexp.bench.base import BenchRow, at_most, compare, median_interval, seconds

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

CODES, GRID, BATCH, IMAGES = 391, 32, 1024, 65_536
"""Of more images than a cache holds, as in training."""

PLAIN_IMAGES, ONE_HOT_IMAGES = 64, 8
"""Images of one measurement of the slow ways; all figures are per image."""

SHARE_BOUND, SHARE_GOAL = 0.01, 0.001
"""Loading over a training step of ViT-B."""

GPU_STEP_SECONDS = 1 / 3783
"""Seconds per image of a ViT-B step on one H200 at 40 % of its matrix peak: derived from FLOPs, not measured."""

ROUNDS = 9


def rows() -> list[BenchRow]:
    """Measure, within about a minute on two cores."""
    import torch

    # One thread: the figures then do not depend on what the machine's other cores do.
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    resident, plain, one_hot = _readers(device)
    loading = median_interval([resident() for _ in range(ROUNDS)])
    each, step = loading.value * 1e6, vit_step_seconds(device)
    found = [
        BenchRow("loader/resident batch", each, "us/image", low=loading.low * 1e6, high=loading.high * 1e6),
        at_most("loader/share of a ViT-B step here", loading.value / step, "fraction", SHARE_BOUND, SHARE_GOAL),
        at_most(
            "loader/share of a derived H200 step", loading.value / GPU_STEP_SECONDS, "fraction", SHARE_BOUND, SHARE_GOAL
        ),
        BenchRow("loader/ViT-B training step", step * 1e6, "us/image", "forward and backward, 197 tokens, one thread"),
    ]
    for name, reader in (("plain", plain), ("one-hot", one_hot)):
        ratio = compare(reader, resident, ROUNDS)
        anchor = f"{reader() * 1e6:.0f} us/image"
        found.append(
            BenchRow(f"loader/{name} reader over resident", ratio.value, "x", anchor, low=ratio.low, high=ratio.high)
        )
    return found


def _readers(device: torch.device) -> tuple[Callable[[], float], Callable[[], float], Callable[[], float]]:
    """Return three functions that read once and return seconds per image."""
    import numpy as np
    import torch

    from tokexp.engine.batches import TokenFeed
    from tokexp.engine.randomness import permutation

    indices = np.random.default_rng(0).integers(0, CODES, (IMAGES, GRID, GRID), np.uint16)
    feed = TokenFeed(indices, np.zeros(IMAGES, np.int64), 1000, device)
    order = permutation(IMAGES, 0, 0)
    blobs = [escaped(image) for image in indices[:PLAIN_IMAGES]]

    def resident() -> float:
        def read() -> None:
            for start in range(0, IMAGES, BATCH):
                feed.batch(order[start : start + BATCH])
            if device.type == "cuda":
                torch.cuda.synchronize()

        return cost(read) / IMAGES

    plain = partial(_per_image, lambda: torch.stack([plain_read(blob) for blob in blobs]), PLAIN_IMAGES)
    some = blobs[:ONE_HOT_IMAGES]
    one_hot = partial(_per_image, lambda: torch.stack([one_hot_read(blob) for blob in some]), ONE_HOT_IMAGES)
    return resident, plain, one_hot


def _per_image(work: Callable[[], object], images: int) -> float:
    return cost(work) / images


def cost(work: Callable[[], object]) -> float:
    """Return the seconds of CPU time that a call takes, so that other work does not count; of wall time with a GPU."""
    import torch

    if torch.cuda.is_available():
        return seconds(work)
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def escaped(image: np.ndarray) -> bytes:
    """Return the bytes of one image's indices by SeiT's rule: [v] below 255, else [255, v - 255]."""
    return bytes(part for v in image.ravel().tolist() for part in ((v,) if v < 255 else (255, v - 255)))


def plain_read(blob: bytes) -> Tensor:
    """Return the indices (GRID, GRID) of an image's bytes, by a loop in Python."""
    import torch

    values: list[int] = []
    carry = 0
    for byte in blob:
        if byte == 255 and carry == 0:
            carry = 255
            continue
        values.append(byte + carry)
        carry = 0
    return torch.tensor(values).view(GRID, GRID)


def one_hot_read(blob: bytes) -> Tensor:
    """Return one image as a cropped and resized one-hot map (CODES, 28, 28)."""
    from torch.nn.functional import interpolate, one_hot

    channels = one_hot(plain_read(blob), CODES).permute(2, 0, 1)[None].float()
    return interpolate(channels[:, :, 2:27, 3:29], size=(28, 28), mode="bicubic", align_corners=False)[0]


def vit_step_seconds(device: torch.device) -> float:
    """Return seconds per image of a forward and backward pass of ViT-B on 28 x 28 tokens with SeiT's stem."""
    import torch

    from tokexp.registry import implementation
    from tokexp.spec.models import VitSpec

    model = implementation("models", "vit")(VitSpec.model_validate({"kind": "vit", "size": "base"}), 32, (28, 28))
    model.to(device).train()
    images = 64 if device.type == "cuda" else 2
    values = torch.randn(images, 32, 28, 28, device=device)

    def step() -> None:
        model(values).square().mean().backward()
        model.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    step()
    return median_interval([cost(step) for _ in range(3)]).value / images
