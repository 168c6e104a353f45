"""What MaPeT's step costs over a MIM step, and DTM's over one without morphing; what masks and groupings cost.

ViT-B on 224 x 224 pixels with 8,192 codes and the cutting point 60, forward and backward; DTM learns from CLIP's ViT-B,
with random weights, which take as long. On a GPU in bf16 and compiled; on a CPU one image at a time in float32, so that
it fits there: the bound of DTM's step, which is for a GPU, is then shown and not judged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tokexp.bench.base import BenchRow, compare, median_interval, say, seconds

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tokexp.data.base import Batch
    from tokexp.objectives.base import Objective

WIDTH, DEPTH, HEADS, PATCH, SIDE = 768, 12, 12, 16, 224
PATCHES, CODES, CUT = (SIDE // PATCH) ** 2, 8192, 60

BOUND, GOAL = 2.6, 2.35
"""MaPeT's step over MIM's."""

DTM_BOUND, DTM_GOAL = 1.01, 1.003
"""A step with morphing over one that compares token by token, the teacher's forward pass in both."""

DTM_PAPER = "paper: 1.0097 (1,460 over 1,446 images/s)"

GROUPED_IMAGES, TARGET_WIDTH, LEVELS = 16, 512, 6
"""What is grouped: CLIP's projected tokens of some images, at so many drawn granularities."""

ROUNDS = 5
GPU_IMAGES, GPU_STEPS, MASK_IMAGES = 64, 50, 256
"""GPU_STEPS: in one window; DTM's granularities differ from step to step."""


def rows() -> list[BenchRow]:
    """Measure, within about five minutes on one core."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = "objectives/mapet step over mim step"
    mapet, mim = (step_of(kind, device) for kind in ("mapet", "mim"))
    ratio = compare(mapet, mim, ROUNDS, name)
    holds = ratio.value <= BOUND
    return [
        BenchRow(name, ratio.value, "x", GOAL, BOUND, holds, ratio.low, ratio.high),
        BenchRow(f"{name}, by FLOPs", mapet_operations() / mim_operations(), "x", "two full streams: 2.34"),
        mask_row(device, mim()),
        dtm_row(device),
        grouping_row(device),
    ]


def dtm_row(device: torch.device, rounds: int = ROUNDS, **sizes: int) -> BenchRow:
    """Compare a step of DTM with one of its host: the same student and teacher, every token its own group."""
    name, gpu = "objectives/dtm step over its host's, teacher included", device.type == "cuda"
    teacher = tower(device)
    morphed, plain = (
        step_of("dtm", device, GPU_STEPS if gpu else 1, teacher=teacher, grouper=grouper, **sizes)
        for grouper in ("bipartite", "ungrouped")
    )
    ratio = compare(morphed, plain, rounds, name)
    anchor = f"{DTM_PAPER}; goal {DTM_GOAL}" + ("" if gpu else "; the bound is for a GPU, this is a CPU")
    holds = ratio.value <= DTM_BOUND if gpu else None
    return BenchRow(name, ratio.value, "x", anchor, DTM_BOUND, holds, ratio.low, ratio.high)


def grouping_row(device: torch.device, images: int = GROUPED_IMAGES, rounds: int = 2 * ROUNDS) -> BenchRow:
    """Compare DTM's groupings and loss by labels with the same by source matrices, as the text writes them."""
    import torch

    from tokexp.objectives.groupers.bipartite import BipartiteMatching
    from tokexp.objectives.morphing.loss import distance_of, group_means, morphing_loss
    from tokexp.objectives.morphing.matrices import matrix_loss, source_matrix
    from tokexp.objectives.morphing.schedules import draw_levels
    from tokexp.spec.morphing import Bipartite, MorphingSpec, ScheduleSpec

    generator = torch.Generator().manual_seed(0)
    student, target = torch.randn(2, images, PATCHES, TARGET_WIDTH, generator=generator).to(device)
    levels = draw_levels(ScheduleSpec(levels=LEVELS), PATCHES, False, generator)
    distance, matching = distance_of(MorphingSpec()), BipartiteMatching(Bipartite(kind="bipartite"))

    def by_labels() -> None:
        for level in levels:
            grouping = matching.group(target, level, generator)
            float(morphing_loss(student, grouping, group_means(target, grouping), distance))

    def by_matrices() -> None:
        for level in levels:
            float(matrix_loss(student, target, source_matrix(target, level, False), distance))

    name = "objectives/dtm groupings by labels over source matrices"
    with torch.no_grad():
        ratio = compare(lambda: seconds(by_labels), lambda: seconds(by_matrices), rounds, name)
    groups = ", ".join(str(level.groups) for level in levels)
    anchor = f"{images} images, {PATCHES} tokens to {groups} groups"
    return BenchRow(name, ratio.value, "x", anchor, 1.0, ratio.value <= 1, ratio.low, ratio.high)


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


def step_of(
    kind: str, device: torch.device, steps: int = 1, *, teacher: nn.Module | None = None, grouper: str = "bipartite",
    **sizes: int,
) -> Callable[[], float]:  # fmt: skip
    """Return a function that makes forward and backward passes of an objective and returns seconds per image."""
    import torch

    gpu = device.type == "cuda"
    objective, batch = material(kind, device, GPU_IMAGES if gpu else 1, teacher, grouper, **sizes)
    forward, generator = torch.compile(objective) if gpu else objective, torch.Generator(device).manual_seed(0)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            loss = forward(batch, generator).loss
        loss.backward()
        objective.zero_grad(set_to_none=True)
        if gpu:
            torch.cuda.synchronize(device)

    def window() -> None:
        for _ in range(steps):
            step()

    step()
    return lambda: seconds(window) / (steps * len(batch))


def tower(device: torch.device) -> nn.Module:
    """Return CLIP's ViT-B/16 with its projection and random weights, as DTM's teacher."""
    from tokexp.models.pixel_input import PixelInput
    from tokexp.registry import implementation
    from tokexp.spec.teachers import TimmTarget

    say("building the teacher")
    spec = TimmTarget.model_validate({"kind": "timm", "random": True})
    built: nn.Module = implementation("targets", "timm")(spec, (3, SIDE, SIDE), PixelInput("half"))
    return built.to(device)


def material(
    kind: str, device: torch.device, images: int, teacher: nn.Module | None = None, grouper: str = "bipartite",
    **sizes: int,
) -> tuple[Objective, Batch]:  # fmt: skip
    """Return the objective of a kind with random weights, and a random batch of pixels with tokens to predict.

    `teacher` and `grouper` are for dtm; `sizes` change the model.
    """
    import torch

    from tokexp.data.base import Batch
    from tokexp.models.pixel_input import PixelInput
    from tokexp.objectives.base import ObjectiveContext
    from tokexp.registry import implementation
    from tokexp.spec.distill import Dtm
    from tokexp.spec.masked import Mim
    from tokexp.spec.models import VitSpec
    from tokexp.spec.permuted import Mapet

    stem = {"kind": "patchify", "patch_size": PATCH}
    size = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, **sizes}
    vit = VitSpec.model_validate({"kind": "vit", "input": "pixels", "layer_scale": 0.1, "stem": stem, **size})
    of_dtm = {"kind": "dtm", "target": {"kind": "timm", "random": True}, "grouper": {"kind": grouper}}
    spec = (
        Mapet(kind="mapet", cut=CUT) if kind == "mapet"
        else Dtm.model_validate(of_dtm) if kind == "dtm"
        else Mim(kind="mim")
    )  # fmt: skip
    torch.manual_seed(0)
    backbone = implementation("models", "vit")(vit, 3, (SIDE, SIDE), drop_path=spec.drop_path)
    context = ObjectiveContext(backbone, PixelInput("half"), 1000, target_codes=CODES, target=teacher)  # type: ignore[arg-type]
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
