import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from tokexp.registry import implementation
from tokexp.spec.models import VitSpec
from tokexp.spec.stems import StemSpec

CASES = [
    ({"kind": "conv4x4"}, (28, 28)),
    ({"kind": "conv4x4"}, (8, 12)),
    ({"kind": "conv2x2"}, (28, 28)),
    ({"kind": "conv2x2", "stride": 1}, (15, 15)),
    ({"kind": "patchify", "patch_size": 4}, (8, 12)),
    ({"kind": "patchify", "patch_size": 3}, (8, 10)),
]
NAMES = ["conv4x4", "conv4x4 oblong", "conv2x2", "conv2x2 stride 1", "patchify", "patchify with a remainder"]


def stem(fields: dict[str, object], channels: int = 3, width: int = 8) -> nn.Module:
    spec = TypeAdapter(StemSpec).validate_python(fields)
    built = implementation("stems", str(fields["kind"]))(spec, channels, width)
    assert isinstance(built, nn.Module)
    return built


def seen_by(fields: dict[str, object]) -> torch.Tensor:
    """Return how many patches see each place of an 8 x 8 input."""
    values = torch.zeros(1, 3, 8, 8, requires_grad=True)
    patches = stem(fields)(values).abs().sum(1).flatten()
    counts = torch.zeros(8, 8)
    for patch in patches:
        (gradient,) = torch.autograd.grad(patch, values, retain_graph=True)
        counts += (gradient.abs().sum((0, 1)) > 0).float()
    return counts


@pytest.mark.parametrize(("fields", "grid"), CASES, ids=NAMES)
def test_a_stem_makes_the_patch_grid_that_the_spec_promises(fields: dict[str, object], grid: tuple[int, int]) -> None:
    spec = VitSpec.model_validate({"kind": "vit", "width": 8, "heads": 2, "stem": fields})
    assert stem(fields)(torch.randn(2, 3, *grid)).shape == (2, 8, *spec.patch_grid(grid))


@pytest.mark.parametrize(
    "fields", [{"kind": "conv2x2"}, {"kind": "patchify", "patch_size": 4}], ids=["conv2x2", "patchify"]
)
def test_patches_for_masked_objectives_see_every_token_exactly_once(fields: dict[str, object]) -> None:
    assert torch.equal(seen_by(fields), torch.ones(8, 8))


@pytest.mark.parametrize(
    "fields", [{"kind": "conv4x4"}, {"kind": "conv2x2", "stride": 1}], ids=["conv4x4", "conv2x2 stride 1"]
)
def test_the_other_stems_overlap(fields: dict[str, object]) -> None:
    assert seen_by(fields)[3:5, 3:5].min() > 1


def test_the_stem_of_masked_modelling_has_the_published_size() -> None:
    built = stem({"kind": "conv2x2"}, channels=32, width=768)
    assert sum(parameter.numel() for parameter in built.parameters()) == 99_072


def test_first_weights_are_kaiming_uniform() -> None:
    torch.manual_seed(0)
    weight = stem({"kind": "conv2x2"}, channels=32, width=256).weight
    assert isinstance(weight, torch.Tensor)
    bound = (32 * 4) ** -0.5
    assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
