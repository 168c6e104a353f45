"""Whether training compiles as it should: graph breaks in a step, and graphs compiled after the third step.

Small models, whose graphs are those of large ones; torch's tracer without a code generator, so a compiler is not
needed. Masks, permutations, mask ratios and granularities are drawn anew in every step, and the weights move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tokexp.bench.base import BenchRow, at_most, say

if TYPE_CHECKING:
    from tokexp.data.base import Batch
    from tokexp.objectives.base import Objective

STEPS, FREE = 8, 3
"""Steps that are made, and how many of them, from the first, may compile."""

SIDE, PATCH, CODES, SAMPLES = 24, 4, 16, 4

_BLOCKS: dict[str, Any] = {"blocks": {"smallest": 4}}
_MOTO: dict[str, Any] = {"kind": "moto", "inner": {"kind": "patchify", "patch_size": PATCH}}

CASES: dict[str, dict[str, Any]] = {
    "mim": {"kind": "mim"},
    "beit": {"kind": "beit", **_BLOCKS},
    "mapet": {"kind": "mapet", "cut": 12},
    "dtm": {"kind": "dtm", **_BLOCKS, "target": {"kind": "momentum"}},
    "mtm": {"kind": "mtm", "decoder": {"width": 32, "depth": 1, "heads": 2}},
    "supervised + token_prop": {"kind": "supervised", "terms": [{"kind": "token_prop", "size": 16}]},
    "mim + token_prop": {"kind": "mim", "terms": [{"kind": "token_prop", "size": 16}]},
    "supervised on moto": {"kind": "supervised", "stem": _MOTO},
}
"""What the papers train, as an objective's fields; `stem` is the model's."""


def rows() -> list[BenchRow]:
    """Measure, within about two minutes on one core."""
    return [row for name in CASES for row in case_rows(name)]


def case_rows(name: str, steps: int = STEPS) -> list[BenchRow]:
    """Return the graph breaks of a case, and the graphs that it compiled after its third step."""
    import torch
    from torch._dynamo import reset
    from torch._dynamo.utils import counters

    say(f"tracing {name}")
    reset()
    counters.clear()
    objective, batch = material(**CASES[name])
    compiled: Any = torch.compile(objective, backend="eager")
    optimizer = torch.optim.SGD([each for each in objective.parameters() if each.requires_grad], 1e-3)
    graphs = []
    for step in range(steps):
        optimizer.zero_grad()
        compiled(batch, torch.Generator().manual_seed(step)).loss.backward()
        optimizer.step()
        objective.after_step()
        graphs.append(counters["stats"]["unique_graphs"])
    breaks = sum(counters["graph_break"].values())
    reset()
    return [
        at_most(f"graphs/breaks in a step of {name}", breaks, "breaks", 0, f"{graphs[-1]} in all"),
        at_most(f"graphs/compiled after the third step of {name}", graphs[-1] - graphs[FREE - 1], "graphs", 0),
    ]


def material(kind: str, stem: dict[str, Any] | None = None, **fields: Any) -> tuple[Objective, Batch]:
    """Return a small objective with its terms, and a batch: of pixels with tokens to predict, or of codes for mtm."""
    import torch
    from pydantic import TypeAdapter

    from tokexp.data.base import Batch
    from tokexp.models.pixel_input import PixelInput
    from tokexp.models.token_input import TokenInput
    from tokexp.objectives.base import ObjectiveContext
    from tokexp.objectives.with_terms import WithTerms
    from tokexp.registry import implementation
    from tokexp.spec.models import VitSpec
    from tokexp.spec.objectives import ObjectiveSpec
    from tokexp.stages.pretrain import positions_of
    from tokexp.tokenizers.base import Codebook

    torch.manual_seed(0)
    spec: Any = TypeAdapter(ObjectiveSpec).validate_python({"kind": kind, **fields})
    tokens = kind == "mtm"
    cut = {"kind": "patchify", "patch_size": 1 if tokens else PATCH}
    model = {"width": 32, "depth": 2, "heads": 2, "stem": stem or cut, "input": "tokens" if tokens else "pixels"}
    side, channels = (SIDE // PATCH, 8) if tokens else (SIDE, 3)
    backbone = implementation("models", "vit")(
        VitSpec.model_validate({"kind": "vit", **model}), channels, (side, side), positions=positions_of(kind)
    )
    codebook = Codebook(torch.randn(CODES, 8), "cosine")
    context = (
        ObjectiveContext(backbone, TokenInput(codebook, spec.input), 10, codebook)
        if tokens
        else ObjectiveContext(backbone, PixelInput("half"), 10, target_codes=CODES)
    )
    objective: Objective = implementation("objectives", kind)(spec, context)
    indices = torch.randint(CODES, (SAMPLES, SIDE // PATCH, SIDE // PATCH))
    values = codebook.lookup(indices) if tokens else torch.rand(SAMPLES, 3, SIDE, SIDE)
    batch = Batch(torch.arange(SAMPLES), 10, values=values, target_indices=None if tokens else indices)
    return WithTerms(objective, spec.terms) if spec.terms else objective, batch
