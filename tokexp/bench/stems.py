"""What MoTo and TokenProp add to a training step, and MoTo's module against attention between all pixels.

A step is forward, backward and AdamW's update of a classifier of 224 x 224 pixels, ViT-B and ViT-S, the same with and
without, in turns. On a GPU it is compiled and in bfloat16, as one would train. A CPU has room for few images, in
float32: its figures are shown beside the bounds of the steps, which are for a GPU, and not judged by them. Beside each
stands the same ratio by operations, which is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tokexp.bench.base import BenchRow, compare, say, seconds

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from tokexp.data.base import Batch
    from tokexp.objectives.base import Objective

SIDE, CLASSES = 224, 1000

MOTO_BOUND, MOTO_GOAL = 1.05, 1.025
TOKEN_PROP_BOUND, TOKEN_PROP_GOAL = 1.041, 1.02
"""Step with over step without."""

MOTO_PAPER = {"base": "paper: 1.017 by GFLOPs (DeiT-B)", "small": "paper: 1.043 by GFLOPs (DeiT-S)"}
TOKEN_PROP_PAPER = {"base": "paper: 1.035 (DeiT-B)", "small": "paper: 1.041 (DeiT-S)"}

ATTENTION_BOUND = 7.9
"""MoTo's module over attention between all pixels, whose scores are written out (table 3: 4.12 ms over 0.52 ms)."""

ROWS_AT_ONCE = 512
"""Queries whose scores exist at a time; all 50,176 would take 10 GB. They are written out all the same."""

CPU_QUERIES = 4096
"""Queries that a CPU answers; the time of all is as many times that as there are more: each sees all pixels."""


def rows() -> list[BenchRow]:
    """Measure, within about five minutes on two cores."""
    return [*step_rows("base"), *step_rows("small"), module_row()]


def step_rows(size: str, rounds: int = 5, **fields: Any) -> list[BenchRow]:
    """Compare steps with and without MoTo, and with and without TokenProp. The bounds are for ViT-B.

    `fields` change the model, for tests.
    """
    say(f"building ViT-{size[0].upper()}")
    model = {"size": size, **fields}
    moto, token_prop = {"stem": {"kind": "moto"}}, {"terms": [{"kind": "token_prop"}]}
    plain, found = _step(model), list[BenchRow]()
    for name, given, bound, goal, paper in (
        ("MoTo", moto, MOTO_BOUND, MOTO_GOAL, MOTO_PAPER[size]),
        ("TokenProp", token_prop, TOKEN_PROP_BOUND, TOKEN_PROP_GOAL, TOKEN_PROP_PAPER[size]),
    ):
        title = f"stems/step with {name} over one without, ViT-{size[0].upper()}"
        ratio = compare(_step(model, **given), plain, rounds, title)
        anchor, bounded = f"{paper}; goal {goal:g}", size == "base"
        if bounded and not _on_gpu():
            anchor += "; the bound is for a GPU, this is a CPU"
        holds = ratio.value <= bound if bounded and _on_gpu() else None
        found.append(
            BenchRow(title, ratio.value, "x", anchor, bound if bounded else None, holds, ratio.low, ratio.high)
        )
        found.append(BenchRow(f"{title}, by FLOPs", operations(model, **given) / operations(model), "x", paper))
    return found


def module_row(rounds: int = 5, side: int = SIDE) -> BenchRow:
    """Compare MoTo's forward pass on 16 channels of one picture with attention between its pixels."""
    import torch

    from tokexp.models.modulation import Modulation
    from tokexp.spec.stems import MotoStem

    device = _device()
    modulation = Modulation(MotoStem.model_validate({"kind": "moto"}), 16, 1).to(device).eval()
    projections = torch.nn.Linear(16, 48).to(device)
    values = torch.randn(1, 16, side, side, device=device)
    repeats, queries = (50, side**2) if _on_gpu() else (10, min(CPU_QUERIES, side**2))
    name = f"stems/unfused pixel attention over MoTo's module, {side} x {side}"
    with torch.inference_mode():
        attention = _timed(lambda: pixel_attention(projections, values, queries), device)
        ratio = compare(
            lambda: attention() * side**2 / queries,
            _timed(lambda: [modulation(values) for _ in range(repeats)], device, repeats),
            rounds, name,
        )  # fmt: skip
    anchor = f"paper: {ATTENTION_BOUND} (4.12 ms over 0.52 ms)"
    if queries < side**2:
        anchor += f"; timed on {queries:,} of {side**2:,} queries"
    return BenchRow(
        name, ratio.value, "x", anchor, ATTENTION_BOUND, ratio.value >= ATTENTION_BOUND, ratio.low, ratio.high
    )


def pixel_attention(projections: nn.Module, values: Tensor, queries: int) -> Tensor:
    """Return (1, queries, 16): attention of the first pixels over all of values (1, 16, S, S), scores written out."""
    import torch

    query, key, value = projections(values.flatten(2).mT).chunk(3, -1)
    parts = query[:, :queries].split(ROWS_AT_ONCE, 1)
    return torch.cat([(part @ key.mT / 4.0).softmax(-1) @ value for part in parts], 1)


def operations(model: dict[str, Any], **given: Any) -> int:
    """Return the operations of one image's forward and backward pass, a multiplication and an addition as two."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Fake tensors have no values, so nothing is computed; the counter knows attention's products when written out.
    with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        objective, batch = _objective(model, **given), _batch(1, torch.device("cpu"))
        objective(batch, torch.Generator()).loss.backward()
    return int(counter.get_total_flops())


def _step(model: dict[str, Any], **given: Any) -> Callable[[], float]:
    """Return a function that makes one update of a classifier and returns its seconds."""
    import torch

    from tokexp.engine.optimization import build_optimizer

    device, gpu = _device(), _on_gpu()
    objective = _objective(model, **given).to(device)
    optimizer = build_optimizer(objective, _recipe())
    forward: Any = torch.compile(objective) if gpu else objective
    batch, generator = _batch(128 if gpu else 2, device), torch.Generator(device)

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            output = forward(batch, generator)
        output.loss.backward()
        optimizer.step()

    return _timed(update, device)


def _batch(images: int, device: torch.device) -> Batch:
    import torch

    from tokexp.data.base import Batch

    labels = torch.arange(images, device=device) % CLASSES
    return Batch(labels, CLASSES, values=torch.rand(images, 3, SIDE, SIDE, device=device))


def _objective(
    model: dict[str, Any], stem: dict[str, Any] | None = None, terms: list[dict[str, Any]] | None = None
) -> Objective:
    from tokexp.models.pixel_input import PixelInput
    from tokexp.objectives.base import ObjectiveContext
    from tokexp.objectives.with_terms import WithTerms
    from tokexp.registry import implementation
    from tokexp.spec.models import VitSpec
    from tokexp.spec.objectives import Supervised

    vit = VitSpec.model_validate({"kind": "vit", "input": "pixels", "stem": stem or {"kind": "patchify"}, **model})
    spec = Supervised.model_validate({"kind": "supervised", "terms": terms or []})
    backbone = implementation("models", "vit")(vit, 3, (SIDE, SIDE))
    context = ObjectiveContext(backbone, PixelInput("half"), CLASSES)
    objective: Objective = implementation("objectives", "supervised")(spec, context)
    return WithTerms(objective, spec.terms) if spec.terms else objective


def _recipe() -> Any:
    from tokexp.spec.train import TrainSpec

    return TrainSpec.model_validate({"lr": 1e-4})


def _on_gpu() -> bool:
    return _device().type == "cuda"


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
