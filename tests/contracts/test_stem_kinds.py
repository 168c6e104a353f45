"""What every stem holds: the patches that its spec promises, gradients, and what a patch may depend on."""

from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from tests.objectives.building import stir
from tokexp.registry import implementation
from tokexp.spec.models import VitSpec
from tokexp.spec.stems import StemSpec

MEMBERS = {member.model_fields["kind"].annotation.__args__[0]: member for member in get_args(get_args(StemSpec)[0])}
MOTO: list[dict[str, Any]] = [
    {"placement": "token"}, {"preset": "paper"}, {"preset": "attnorm", "entities": 4}, {"norm": "batch"},
    {"norm": "layer", "placement": "token"}, {"norm": "instance"}, {"semantic_kernel": 3, "sampling": "per_image"},
    {"inner": {"kind": "conv2x2"}, "value": True}, {"gate": True, "partition": "hard"},
]  # fmt: skip
CASES = [(kind, {}) for kind in MEMBERS] + [("moto", fields) for fields in MOTO]
CHANNELS, WIDTH = 3, 16


def fields_of(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return a stem of patches of 4 that fits small inputs."""
    if "patch_size" in MEMBERS[kind].model_fields:
        return {"kind": kind, "patch_size": 4, **fields}
    if kind == "moto":
        return {"kind": kind, "inner": {"kind": "patchify", "patch_size": 4}, "entities": 4, **fields}
    if kind == "t2t":
        return {"kind": kind, "kernels": [3, 3], "strides": [2, 2], "width": 8, **fields}
    return {"kind": kind, **fields}


@pytest.fixture(params=CASES, ids=lambda case: " ".join([case[0], *map(str, case[1].values())]))
def spec(request: pytest.FixtureRequest) -> Any:
    return TypeAdapter(StemSpec).validate_python(fields_of(*request.param))


@pytest.fixture
def stem(spec: Any) -> nn.Module:
    return built(spec)


def built(spec: Any) -> nn.Module:
    torch.manual_seed(0)
    found = implementation("stems", spec.kind)(spec, CHANNELS, WIDTH)
    assert isinstance(found, nn.Module)
    return found


def values(images: int = 2, rows: int = 8, columns: int = 12) -> Tensor:
    return torch.randn(images, CHANNELS, rows, columns, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("sides", [(8, 12), (16, 16), (12, 8)])
def test_the_patch_grid_is_the_specs(spec: Any, stem: nn.Module, sides: tuple[int, int]) -> None:
    assert stem(values(2, *sides)).shape == (2, WIDTH, *spec.patch_grid(sides))


def test_every_trained_parameter_gets_a_gradient(stem: nn.Module) -> None:
    stem(values().requires_grad_()).square().sum().backward()
    assert [name for name, parameter in stem.named_parameters() if parameter.grad is None] == []


def test_the_input_gets_a_gradient(stem: nn.Module) -> None:
    given = values().requires_grad_()
    stem(given).square().sum().backward()
    assert given.grad is not None
    assert given.grad.abs().sum() > 0


def test_out_of_training_nothing_is_drawn_and_no_image_sees_another(stem: nn.Module) -> None:
    stem.eval()
    given = values(3)
    together = stem(given)
    assert torch.equal(stem(given), together)
    torch.testing.assert_close(stem(given[1:2]), together[1:2], atol=1e-5, rtol=1e-5)


def test_a_stem_that_says_it_does_not_overlap_sees_nothing_outside_of_a_patch(spec: Any, stem: nn.Module) -> None:
    stir(stem)
    given = values(1, 16, 16).requires_grad_()
    rows, columns = spec.patch_grid((16, 16))
    outside = torch.zeros(16, 16)
    patches = stem.eval()(given).square().sum(1)[0]
    for row, column in ((0, 0), (rows // 2, columns // 2)):
        (gradient,) = torch.autograd.grad(patches[row, column], given, retain_graph=True)
        seen = gradient.abs().sum((0, 1))
        down, across = 16 // rows, 16 // columns
        seen[row * down : (row + 1) * down, column * across : (column + 1) * across] = 0
        outside += seen
    assert bool(outside.any()) is spec.overlaps


def test_a_state_loads_strictly_into_another_instance(spec: Any, stem: nn.Module) -> None:
    torch.manual_seed(9)
    other = implementation("stems", spec.kind)(spec, CHANNELS, WIDTH)
    other.load_state_dict(stem.state_dict(), strict=True)
    assert torch.equal(other.eval()(values()), stem.eval()(values()))


def test_equal_seeds_give_equal_stems(spec: Any, stem: nn.Module) -> None:
    other = built(spec).state_dict()
    assert all(torch.equal(value, other[name]) for name, value in stem.state_dict().items())


def test_lower_precision_gives_nearly_the_same(stem: nn.Module) -> None:
    stem.eval()
    full = stem(values())
    with torch.autocast("cpu", torch.bfloat16):
        low = stem(values())
    torch.testing.assert_close(low.float(), full, atol=0.1, rtol=0.1)


def test_a_side_that_cannot_be_cut_is_named(spec: Any) -> None:
    assert spec.fault(16) == ""
    assert spec.fault(1) != ""


def test_a_model_of_the_stem_can_be_specified(spec: Any) -> None:
    model = VitSpec.model_validate({"kind": "vit", "width": WIDTH, "depth": 2, "heads": 2, "stem": spec})
    assert model.patch_grid((16, 16)) == spec.patch_grid((16, 16))
