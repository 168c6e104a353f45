"""What MoTo and TokenProp add to a training step, and MoTo's module against attention between all pixels.

A step is forward, backward and AdamW's update of a ViT-B classifier of 224 x 224 pixels (a ViT-S's beside it), the same
with and without, in turns. On a GPU it is compiled and in bfloat16, as one would train; on a CPU in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tokexp.bench.base import BenchRow, compare, seconds

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SIDE, CLASSES = 224, 1000

MOTO_BOUND, MOTO_GOAL = 1.05, 1.025
TOKEN_PROP_BOUND, TOKEN_PROP_GOAL = 1.041, 1.02
"""Step with over step without. The paper prints 4.1 % for TokenProp on DeiT-S and 3.5 % on DeiT-B."""

ATTENTION_BOUND = 7.9
"""MoTo's module over attention between all pixels, whose scores are written out (table 3: 4.12 ms over 0.52 ms)."""

ROWS_AT_ONCE = 512
"""Queries whose scores exist at a time; all 50,176 would take 10 GB. They are written out all the same."""


def rows() -> list[BenchRow]:
    """Measure, within about five minutes on two cores."""
    return [*step_rows("base"), *step_rows("small"), module_row()]


def step_rows(size: str, rounds: int = 5) -> list[BenchRow]:
    """Compare steps with and without MoTo, and with and without TokenProp. The bounds are for ViT-B."""
    bounded = size == "base"
    plain, moto, decoded = _step(size), _step(size, stem={"kind": "moto"}), _step(size, terms=[{"kind": "token_prop"}])
    cases = (
        ("MoTo", moto, MOTO_BOUND, MOTO_GOAL), ("TokenProp", decoded, TOKEN_PROP_BOUND, TOKEN_PROP_GOAL),
    )  # fmt: skip
    found = []
    for name, step, bound, goal in cases:
        ratio = compare(step, plain, rounds)
        title = f"stems/step with {name} over one without, ViT-{size[0].upper()}"
        found.append(
            BenchRow(
                title, ratio.value, "x", goal, bound if bounded else None, ratio.value <= bound if bounded else None,
                ratio.low, ratio.high,
            )
        )  # fmt: skip
    return found


def module_row(rounds: int = 5) -> BenchRow:
    """Compare MoTo's forward pass on 16 channels of one picture with attention between its pixels."""
    import torch

    from tokexp.models.modulation import Modulation
    from tokexp.spec.stems import MotoStem

    device = _device()
    modulation = Modulation(MotoStem.model_validate({"kind": "moto"}), 16, 1).to(device).eval()
    projections = torch.nn.Linear(16, 48).to(device)
    values = torch.randn(1, 16, SIDE, SIDE, device=device)
    repeats = 50 if device.type == "cuda" else 10
    with torch.inference_mode():
        ratio = compare(
            _timed(lambda: _pixel_attention(projections, values), device),
            _timed(lambda: [modulation(values) for _ in range(repeats)], device, repeats),
            rounds if device.type == "cuda" else 1,
        )
    name, holds = "stems/unfused pixel attention over MoTo's module, 224 x 224", ratio.value >= ATTENTION_BOUND
    return BenchRow(name, ratio.value, "x", ATTENTION_BOUND, ATTENTION_BOUND, holds, ratio.low, ratio.high)


def _pixel_attention(projections: nn.Module, values: Tensor) -> Tensor:
    import torch

    query, key, value = projections(values.flatten(2).mT).chunk(3, -1)
    parts = query.split(ROWS_AT_ONCE, 1)
    return torch.cat([(part @ key.mT / 4.0).softmax(-1) @ value for part in parts], 1)


def _step(
    size: str, stem: dict[str, Any] | None = None, terms: list[dict[str, Any]] | None = None
) -> Callable[[], float]:
    """Return a function that makes one update of a classifier and returns its seconds."""
    import torch

    from tokexp.data.base import Batch
    from tokexp.engine.optimization import build_optimizer
    from tokexp.objectives.base import Objective

    device = _device()
    gpu = device.type == "cuda"
    images = 128 if gpu else 2
    objective: Objective = _objective(size, stem or {"kind": "patchify"}, terms or []).to(device)
    optimizer = build_optimizer(objective, _recipe())
    forward: Any = torch.compile(objective) if gpu else objective
    labels = torch.arange(images, device=device) % CLASSES
    batch = Batch(labels, CLASSES, values=torch.rand(images, 3, SIDE, SIDE, device=device))
    generator = torch.Generator(device)

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            output = forward(batch, generator)
        output.loss.backward()
        optimizer.step()

    return _timed(update, device)


def _objective(size: str, stem: dict[str, Any], terms: list[dict[str, Any]]) -> Any:
    from tokexp.models.pixel_input import PixelInput
    from tokexp.objectives.base import ObjectiveContext
    from tokexp.objectives.with_terms import WithTerms
    from tokexp.registry import implementation
    from tokexp.spec.models import VitSpec
    from tokexp.spec.objectives import Supervised

    model = VitSpec.model_validate({"kind": "vit", "size": size, "input": "pixels", "stem": stem})
    spec = Supervised.model_validate({"kind": "supervised", "terms": terms})
    backbone = implementation("models", "vit")(model, 3, (SIDE, SIDE))
    context = ObjectiveContext(backbone, PixelInput("half"), CLASSES)
    objective = implementation("objectives", "supervised")(spec, context)
    return WithTerms(objective, spec.terms) if spec.terms else objective


def _recipe() -> Any:
    from tokexp.spec.train import TrainSpec

    return TrainSpec.model_validate({"lr": 1e-4})


def _device() -> torch.device:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _timed(work: Callable[[], object], device: torch.device, repeats: int = 1) -> Callable[[], float]:
    """Return a function that does the work, waits for the device, and returns the seconds of one repeat."""
    import torch

    def finished() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return lambda: seconds(finished) / repeats
