"""TokenProp and MoTo on the four families of models: ViT, T2T-ViT, Swin and PVT v2, by labels and by views."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch.nn.functional import interpolate

from tests.objectives.terms.classifiers import CLASSES, batch, gradients
from tokexp.models.base import Backbone
from tokexp.models.pixel_input import PixelInput
from tokexp.objectives.base import Objective, ObjectiveContext
from tokexp.objectives.with_terms import WithTerms
from tokexp.registry import implementation
from tokexp.spec.models import ModelSpec
from tokexp.spec.objectives import ObjectiveSpec

FAMILIES: dict[str, dict[str, Any]] = {
    "vit": {"kind": "vit", "width": 16, "depth": 2, "heads": 2, "stem": {"kind": "patchify", "patch_size": 4}},
    "t2t": {
        "kind": "vit", "width": 16, "depth": 2, "heads": 2,
        "stem": {"kind": "t2t", "kernels": [3, 3], "strides": [2, 2], "width": 8},
    },
    "swin": {
        "kind": "swin", "width": 8, "depths": [1, 2], "heads": [1, 2], "window": 2,
        "stem": {"kind": "patchify", "patch_size": 4},
    },
    "pvt_v2": {
        "kind": "pvt_v2", "widths": [8, 16], "depths": [1, 1], "heads": [1, 2], "reductions": [2, 1],
        "mlp_ratios": [2.0, 2.0], "stem": {"kind": "overlap", "patch_size": 4},
    },
}  # fmt: skip
TERM: dict[str, Any] = {"kind": "token_prop", "grid": 4, "size": 8, "rows": (16,)}
LOSSES: dict[str, dict[str, Any]] = {"supervised": {}, "byol": {"hidden": 16, "features": 8}}


def with_moto(fields: dict[str, Any], **moto: Any) -> dict[str, Any]:
    """Return a model with MoTo put into its stem."""
    return {**fields, "stem": {"kind": "moto", "inner": fields["stem"], "entities": 3, **moto}}


def objective(model: dict[str, Any], loss: str = "supervised") -> Objective:
    """Return an objective on a model of 16 x 16 pixels, from a seeded start."""
    torch.manual_seed(3)
    spec: Any = TypeAdapter(ModelSpec).validate_python({"input": "pixels", **model})
    backbone = implementation("models", spec.kind)(spec, 3, (16, 16))
    chosen: Any = TypeAdapter(ObjectiveSpec).validate_python({"kind": loss, **LOSSES[loss]})
    built = implementation("objectives", loss)(chosen, ObjectiveContext(backbone, PixelInput("half"), CLASSES))
    assert isinstance(built, Objective)
    return built


def beside(model: dict[str, Any], loss: str = "supervised", **term: Any) -> WithTerms:
    """Return the same with TokenProp beside it."""
    inner = objective(model, loss)
    spec: Any = TypeAdapter(ObjectiveSpec).validate_python({"kind": loss, **LOSSES[loss], "terms": [{**TERM, **term}]})
    torch.manual_seed(4)
    return WithTerms(inner, spec.terms)


def given(loss: str) -> Any:
    """Return pictures with labels, and another view of them for byol."""
    first = batch()
    assert first.values is not None
    return replace(first, other_view=first.values.flip(-1)) if loss == "byol" else first


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> dict[str, Any]:
    return FAMILIES[request.param]


def test_the_decoder_gives_back_what_the_stem_read_from_what_it_gave(family: dict[str, Any]) -> None:
    built = beside(with_moto(family)).eval()
    pictures = batch()
    found = built(pictures, torch.Generator()).metrics["token_prop"]
    assert pictures.values is not None
    read, backbone = (pictures.values - 0.5) / 0.5, built.objective.backbone
    decoder: Any = built.terms["token_prop"].decoder
    assert isinstance(backbone, Backbone)
    patches = backbone.stem(read)
    assert patches.shape[1:] == (backbone.stem_width, 4, 4)
    wanted = interpolate(read, (8, 8), mode="bilinear", antialias=True)
    expected = (decoder(patches) - wanted).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_term_trains_stem_and_decoder_in_proportion_and_leaves_the_body_alone(
    family: dict[str, Any], loss: str
) -> None:
    none, one, two = (gradients(beside(with_moto(family), loss, weight=w), given(loss)) for w in (0.0, 0.01, 0.02))
    changed = set()
    for name in none:
        if not torch.equal(one[name], none[name]):
            changed.add(name)
            torch.testing.assert_close(two[name] - none[name], 2 * (one[name] - none[name]), atol=1e-5, rtol=1e-3)
    assert {name for name in changed if not name.startswith("terms.")} <= {n for n in none if ".backbone.stem." in n}
    assert any(".backbone.stem." in name for name in changed)


@pytest.mark.parametrize("placement", ["pixel", "token"])
def test_moto_before_or_after_the_stem_keeps_the_shapes_and_is_trained(family: dict[str, Any], placement: str) -> None:
    plain, moto = (objective(model) for model in (family, with_moto(family, placement=placement)))
    one, other = (built.backbone for built in (plain, moto))
    assert isinstance(one, Backbone)
    assert isinstance(other, Backbone)
    assert other.patch_grid == one.patch_grid
    assert other.stem_width == one.stem_width
    found = gradients(moto)
    filters = [name for name in found if name.endswith("semantic.weight")]
    assert len(filters) == 1
    assert found[filters[0]].abs().sum() > 0


def test_orthogonality_finds_the_filters(family: dict[str, Any]) -> None:
    built = objective(with_moto(family))
    spec: Any = TypeAdapter(ObjectiveSpec).validate_python({"kind": "supervised", "terms": [{"kind": "orthogonality"}]})
    summed = WithTerms(built, spec.terms)
    (weight,) = (p.detach().flatten(1) for name, p in summed.named_parameters() if name.endswith("semantic.weight"))
    products = weight @ weight.T
    expected = sum((products[i, j] - float(i == j)) ** 2 for i in range(3) for j in range(3))
    torch.testing.assert_close(summed(batch(), torch.Generator()).metrics["orthogonality"], torch.as_tensor(expected))


@pytest.mark.parametrize("loss", LOSSES)
def test_undecayed_names_are_parameters_and_groups_are_complete(family: dict[str, Any], loss: str) -> None:
    built = beside(with_moto(family), loss)
    names = {name for name, _ in built.named_parameters()}
    assert built.undecayed() <= names
    listed = [id(p) for group in built.layer_groups() for p in group if p.requires_grad]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in built.parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ["swin", "pvt_v2"])
def test_a_step_is_one_graph_and_gives_the_same(kind: str) -> None:
    plain, compiled = (beside(with_moto(FAMILIES[kind])) for _ in range(2))
    expected = gradients(plain)
    whole = torch.compile(compiled, backend="eager", fullgraph=True)
    torch.manual_seed(1)
    whole(batch(), torch.Generator().manual_seed(1)).loss.backward()
    for name, parameter in compiled.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-6, rtol=1e-5)
