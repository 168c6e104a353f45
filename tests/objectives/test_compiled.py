"""Every objective's step compiles without graph breaks, and nothing is compiled again as masks and levels vary."""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch._dynamo.utils import counters

from tests.objectives.building import CLASSES, context, pixel_batch, predictor, token_batch, vit_spec
from tokexp.data.base import Batch
from tokexp.models.pixel_input import PixelInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.base import Objective, ObjectiveContext
from tokexp.objectives.with_terms import WithTerms
from tokexp.registry import implementation
from tokexp.spec.objectives import ObjectiveSpec
from tokexp.stages.pretrain import positions_of

SETTLED = 2
"""Steps after which nothing may be compiled any more; one less than the third, from which on steps are counted."""

CAE: dict[str, Any] = {"blocks": {"smallest": 10, "exact": False}, "neck": {"width": None}}
ONE_GRAPH: list[tuple[str, dict[str, Any]]] = [
    ("mim", {}), ("beit", {"blocks": {"smallest": 10, "exact": False}}), ("pim", {}), ("mapet", {}),
    ("cae", CAE), ("cae", {**CAE, "align_to": "lagged_copy", "neck": {"width": 16, "heads": 2}}),
    ("data2vec", {"top_blocks": 2}), ("data2vec", {"top_blocks": 1, "preset": "released", "blocks": {"smallest": 10}}),
]  # fmt: skip

BLOCKS: dict[str, Any] = {"blocks": {"smallest": 4}}
MOMENTUM: dict[str, Any] = {"target": {"kind": "momentum", "decay": 0.9}}
SMALL: dict[str, dict[str, Any]] = {
    "mtm": {}, "supervised": {}, "mim": {}, "pim": {}, "mapet": {}, "beit": BLOCKS, "dtm": {**MOMENTUM, **BLOCKS},
    "cae": {**BLOCKS, "neck": {"width": 16, "heads": 2}}, "data2vec": {**BLOCKS, "top_blocks": 2, "beta": 0.5},
    "mae": {"decoder": {"width": 16, "depth": 1, "heads": 2}}, "byol": {"hidden": 32, "features": 8},
}  # fmt: skip
"""Every objective, and what makes it small."""

TOKEN_PROP: dict[str, Any] = {"kind": "token_prop", "size": 16, "rows": (16,)}
DTM: dict[str, Any] = {"kind": "dtm", **MOMENTUM}
MOTO: dict[str, Any] = {"kind": "moto", "inner": {"kind": "patchify", "patch_size": 2}}
QUICK: list[tuple[str, dict[str, Any]]] = [
    ("mapet", {"terms": [TOKEN_PROP]}), ("dtm", {}),
    ("mim", {"stem": MOTO, "terms": [TOKEN_PROP, DTM, {"kind": "orthogonality"}]}),
]  # fmt: skip
SLOW: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in SMALL if kind != "dtm"),
    *((kind, {"terms": [TOKEN_PROP]}) for kind in SMALL if kind != "mapet"),
    *((kind, {"terms": [DTM]}) for kind in ("mim", "beit", "supervised")),
    *((kind, {"stem": MOTO}) for kind in ("mim", "mapet", "byol")),
    ("supervised", {"stem": MOTO, "terms": [TOKEN_PROP, {"kind": "orthogonality"}]}),
    *((kind, {"positions": "relative_both"}) for kind in ("mim", "dtm")),
    ("mtm", {"preset": "released"}), ("mae", {"dtm": MOMENTUM}), ("byol", {"dtm": {}}),
]  # fmt: skip
"""A few seconds each."""


def built(
    kind: str, stem: dict[str, Any] | None = None, positions: str = "absolute", **fields: Any
) -> Objective:  # fmt: skip
    """Return an objective with its terms: on pixels of 8 x 12, `mtm` on tokens."""
    torch.manual_seed(3)
    spec: Any = TypeAdapter(ObjectiveSpec).validate_python({"kind": kind, **SMALL[kind], **fields})
    if kind == "mtm":
        made = context(vit_spec(), spec.input, positions=positions_of(kind))
    else:
        vit = vit_spec(stem or {"kind": "patchify", "patch_size": 2}, positions=positions)
        backbone = build_vit(vit, 3, (8, 12), positions=positions_of(kind))  # type: ignore[arg-type]
        made = ObjectiveContext(backbone, PixelInput("half"), CLASSES, target_codes=13)
    objective: Objective = implementation("objectives", kind)(spec, made)
    return WithTerms(objective, spec.terms) if spec.terms else objective


def batch_for(objective: Any, kind: str, seed: int) -> Batch:
    if kind == "mtm":
        return token_batch(getattr(objective, "objective", objective), seed=seed)[1]
    batch = pixel_batch(seed=seed)
    assert batch.values is not None
    return replace(batch, other_view=batch.values + 0.1)


@pytest.mark.parametrize(("kind", "fields"), ONE_GRAPH)
def test_the_step_is_one_graph_however_masks_are_drawn(kind: str, fields: dict[str, Any]) -> None:
    torch._dynamo.reset()
    counters.clear()
    objective = predictor(kind, pixels=True, **fields)
    compiled = torch.compile(objective, backend="eager")
    for step in range(5):
        batch, generator = pixel_batch(seed=step), torch.Generator().manual_seed(step)
        loss = compiled(batch, generator).loss
        loss.backward()
        torch.testing.assert_close(loss, objective(batch, torch.Generator().manual_seed(step)).loss)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1


def named(case: tuple[str, dict[str, Any]]) -> str:
    kind, fields = case
    terms = [term["kind"] for term in fields.get("terms", ())]
    also = [name for name in ("preset", "dtm", "positions") if name in fields]
    return "+".join([kind, *(["moto"] if "stem" in fields else []), *terms, *also])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *(pytest.param(*case, id=named(case)) for case in QUICK),
        *(pytest.param(*case, id=named(case), marks=pytest.mark.slow) for case in SLOW),
    ],
)
def test_training_has_no_graph_break_and_compiles_nothing_after_the_second_step(
    kind: str, fields: dict[str, Any]
) -> None:
    torch._dynamo.reset()
    counters.clear()
    objective, graphs = built(kind, **fields), list[int]()
    compiled = torch.compile(objective, backend="eager")
    optimizer = torch.optim.SGD([each for each in objective.parameters() if each.requires_grad], 1e-3)
    for step in range(5):
        optimizer.zero_grad()
        compiled(batch_for(objective, kind, step), torch.Generator().manual_seed(step)).loss.backward()
        optimizer.step()
        objective.after_step()
        graphs.append(counters["stats"]["unique_graphs"])
    torch._dynamo.reset()
    assert not counters["graph_break"]
    assert 0 < graphs[SETTLED - 1] == graphs[-1]


def test_what_is_compiled_with_a_term_gives_the_same_loss_and_gradients() -> None:
    torch._dynamo.reset()
    results = []
    for wrap in (lambda module: module, lambda module: torch.compile(module, backend="aot_eager")):
        objective = built("mapet", terms=[TOKEN_PROP], drop_path=0.0)
        loss = wrap(objective)(batch_for(objective, "mapet", 0), torch.Generator().manual_seed(0)).loss
        loss.backward()
        results.append([loss, *(each.grad for each in objective.parameters() if each.grad is not None)])
    torch._dynamo.reset()
    assert len(results[0]) == len(results[1]) > 20
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, atol=1e-6, rtol=1e-5)


def test_no_objective_is_left_out() -> None:
    kinds = {member.model_fields["kind"].annotation.__args__[0] for member in get_args(get_args(ObjectiveSpec)[0])}
    assert kinds == SMALL.keys()
