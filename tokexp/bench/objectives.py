"""What MaPeT's step costs over a MIM step of the same model, measured and by FLOPs; what block masks cost.

ViT-B on 224 x 224 pixels with 8,192 codes and the cutting point 60, forward and backward. On a GPU in bf16 and
compiled; on a CPU one image at a time in float32, so that it fits there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tokexp.bench.base import BenchRow, compare, median_interval, seconds

if TYPE_CHECKING:
    import torch

    from tokexp.data.base import Batch
    from tokexp.objectives.base import Objective

WIDTH, DEPTH, HEADS, PATCH, SIDE = 768, 12, 12, 16, 224
PATCHES, CODES, CUT = (SIDE // PATCH) ** 2, 8192, 60

BOUND, GOAL = 2.6, 2.35
"""MaPeT's step over MIM's."""

ROUNDS = 5
GPU_IMAGES, MASK_IMAGES = 64, 256


def rows() -> list[BenchRow]:
    """Measure, within about two minutes on one core."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mapet, mim = (step_of(kind, device) for kind in ("mapet", "mim"))
    ratio = compare(mapet, mim, ROUNDS)
    name, holds = "objectives/mapet step over mim step", ratio.value <= BOUND
    return [
        BenchRow(name, ratio.value, "x", GOAL, BOUND, holds, ratio.low, ratio.high),
        BenchRow(f"{name}, by FLOPs", mapet_operations() / mim_operations(), "x", "two full streams: 2.34"),
        mask_row(device, mim()),
    ]


def mask_row(device: torch.device, step: float) -> BenchRow:
    """Return what drawing an image's block mask (75 of 14 x 14) takes, over a MIM step of an image in seconds."""
    import torch

    from tokexp.objectives.block_masks import block_order
    from tokexp.spec.masked import BlockSpec

    generator = torch.Generator(device).manual_seed(0)
    grid = (SIDE // PATCH, SIDE // PATCH)

    def draw() -> None:
        block_order(BlockSpec(), 75, MASK_IMAGES, grid, generator)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    cost = median_interval([seconds(draw) / MASK_IMAGES for _ in range(ROUNDS)])
    anchor = f"{cost.value * 1e6:.0f} us/image"
    return BenchRow("objectives/block masks over a mim step", cost.value / step, "fraction", anchor)


def step_of(kind: str, device: torch.device) -> Callable[[], float]:
    """Return a function that makes one forward and backward pass of an objective and returns seconds per image."""
    import torch

    gpu = device.type == "cuda"
    objective, batch = material(kind, device, GPU_IMAGES if gpu else 1)
    forward, generator = torch.compile(objective) if gpu else objective, torch.Generator(device).manual_seed(0)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            loss = forward(batch, generator).loss
        loss.backward()
        objective.zero_grad(set_to_none=True)
        if gpu:
            torch.cuda.synchronize(device)

    step()
    return lambda: seconds(step) / len(batch)


def material(kind: str, device: torch.device, images: int, **sizes: int) -> tuple[Objective, Batch]:
    """Return the objective of a kind with random weights, and a random batch of pixels with tokens to predict."""
    import torch

    from tokexp.data.base import Batch
    from tokexp.models.pixel_input import PixelInput
    from tokexp.objectives.base import ObjectiveContext
    from tokexp.registry import implementation
    from tokexp.spec.masked import Mim
    from tokexp.spec.models import VitSpec
    from tokexp.spec.permuted import Mapet

    stem = {"kind": "patchify", "patch_size": PATCH}
    size = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, **sizes}
    vit = VitSpec.model_validate({"kind": "vit", "input": "pixels", "layer_scale": 0.1, "stem": stem, **size})
    spec = Mapet(kind="mapet", cut=CUT) if kind == "mapet" else Mim(kind="mim")
    torch.manual_seed(0)
    backbone = implementation("models", "vit")(vit, 3, (SIDE, SIDE), drop_path=spec.drop_path)
    context = ObjectiveContext(backbone, PixelInput("half"), 1000, target_codes=CODES)
    objective: Objective = implementation("objectives", kind)(spec, context).to(device).train()
    tokens = torch.randint(CODES, (images, SIDE // PATCH, SIDE // PATCH), device=device)
    values, labels = torch.rand(images, 3, SIDE, SIDE, device=device), torch.zeros(images, dtype=torch.int64)
    return objective, Batch(labels.to(device), 1000, values=values, target_indices=tokens)


def mim_operations(width: int = WIDTH, depth: int = DEPTH, masked: int = 78) -> float:
    """Return the multiplications of an image's forward pass: a plain transformer of 1 + N rows, heads on the masked."""
    whole = 1 + PATCHES
    block = 12 * whole * width**2 + 2 * whole**2 * width
    return depth * block + masked * width * CODES + PATCHES * 3 * PATCH**2 * width


def mapet_operations(width: int = WIDTH, depth: int = DEPTH, cut: int = CUT) -> float:
    """Return the same for MaPeT: all rows ask, queries are no keys, and the last block answers queries alone."""
    targets, whole = PATCHES - cut, 1 + PATCHES
    keys, all_rows = whole + targets, whole + 2 * targets
    block = (10 * all_rows + 2 * keys) * width**2 + 2 * (whole**2 + 2 * targets * keys) * width
    last = (10 * targets + 2 * keys) * width**2 + 2 * targets * keys * width
    return (depth - 1) * block + last + targets * width * CODES + PATCHES * 3 * PATCH**2 * width
