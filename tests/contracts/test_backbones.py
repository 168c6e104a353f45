"""What every backbone holds, whatever its stem: shapes, gradients to all that is trained, and complete layer groups."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from tests.contracts.test_stem_kinds import fields_of
from tokexp.models.base import Backbone
from tokexp.registry import implementation
from tokexp.spec.models import ModelSpec
from tokexp.spec.stems import StemSpec

STEMS = [member.model_fields["kind"].annotation.__args__[0] for member in get_args(get_args(StemSpec)[0])]
MODELS = [member.model_fields["kind"].annotation.__args__[0] for member in get_args(ModelSpec) or (ModelSpec,)]
GRID = (8, 12)
Build = Callable[..., Backbone]


@pytest.fixture(params=[(model, stem) for model in MODELS for stem in STEMS], ids="/".join)
def make(request: pytest.FixtureRequest) -> Build:
    kind, stem = request.param
    stem_fields = fields_of(stem, {})
    fields = {"kind": kind, "width": 16, "depth": 2, "heads": 2, "stem": stem_fields}
    spec = ModelSpec.model_validate(fields)

    def build(**options: object) -> Backbone:
        torch.manual_seed(0)
        built = implementation("models", kind)(spec, 5, GRID, **options)
        assert isinstance(built, Backbone)
        return built

    return build


def test_the_attributes_say_what_goes_in_and_out(make: Build) -> None:
    backbone = make()
    values = torch.randn(2, backbone.in_channels, *backbone.input_grid)
    count = backbone.patch_grid[0] * backbone.patch_grid[1]
    patches = backbone.embed(values)
    assert backbone.input_grid == GRID
    assert patches.shape == (2, count, backbone.width)
    assert backbone.encode(patches).shape == (2, 1 + count, backbone.width)
    assert backbone(values).shape == (2, backbone.width)


def test_keeping_all_patches_in_order_changes_nothing(make: Build) -> None:
    backbone = make().eval()
    patches = backbone.embed(torch.randn(2, 5, *GRID))
    kept = torch.arange(patches.shape[1]).expand(2, -1)
    torch.testing.assert_close(backbone.encode(patches, kept), backbone.encode(patches))


def test_an_order_of_kept_patches_orders_the_output(make: Build) -> None:
    backbone = make().eval()
    patches = backbone.embed(torch.randn(2, 5, *GRID))
    kept = torch.stack([torch.randperm(patches.shape[1]) for _ in range(2)])
    expected = backbone.encode(patches)[:, 1:].take_along_dim(kept[:, :, None], 1)
    torch.testing.assert_close(backbone.encode(patches, kept)[:, 1:], expected, atol=1e-5, rtol=1e-5)


def test_no_patch_at_all_leaves_the_class_token(make: Build) -> None:
    backbone = make().eval()
    patches = backbone.embed(torch.randn(2, 5, *GRID))
    assert backbone.encode(patches, torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 1, backbone.width)


def test_every_trained_parameter_gets_a_gradient(make: Build) -> None:
    backbone = make()
    backbone(torch.randn(3, 5, *GRID)).square().sum().backward()
    missing = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
    assert missing == []


def test_layer_groups_hold_every_parameter_once_from_stem_to_norm(make: Build) -> None:
    backbone = make()
    groups = backbone.layer_groups()
    listed = [id(parameter) for group in groups for parameter in group]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(parameter) for parameter in backbone.parameters()}
    assert len(groups) == 4
    assert {id(parameter) for parameter in groups[-1]} == {id(parameter) for parameter in backbone.norm.parameters()}


def test_weights_of_a_fixed_table_of_positions_load_strictly_into_a_learned_one(make: Build) -> None:
    fixed, learned = make(positions="sincos"), make(positions="learned", drop_path=0.2)
    learned.load_state_dict(fixed.state_dict(), strict=True)
    values = torch.randn(2, 5, *GRID)
    assert torch.equal(learned.eval()(values), fixed.eval()(values))


def test_equal_seeds_give_equal_models(make: Build) -> None:
    first, second = make().state_dict(), make().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_lower_precision_works(make: Build) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(make()(torch.randn(2, 5, *GRID))).all()
