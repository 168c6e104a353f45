"""What every backbone holds, whatever its stem: shapes, gradients to all that is trained, and complete layer groups."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter

from tests.contracts.test_stem_kinds import fields_of
from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.registry import implementation
from tokexp.spec.models import ModelSpec
from tokexp.spec.stems import StemSpec

STEMS = [member.model_fields["kind"].annotation.__args__[0] for member in get_args(get_args(StemSpec)[0])]
SIZES: dict[str, dict[str, Any]] = {
    "vit": {"width": 16, "depth": 2, "heads": 2},
    "swin": {"width": 16, "depths": [1, 1], "heads": [2, 2], "window": 2},
    "pvt_v2": {
        "widths": [16, 24], "depths": [1, 1], "heads": [1, 2], "reductions": [2, 1], "mlp_ratios": [2.0, 2.0],
    },
    "mlp": {"width": 16, "depth": 2},
}  # fmt: skip
"""Two blocks of 16 channels at the stem."""

GRID = (8, 12)
Build = Callable[..., Backbone]


def test_every_kind_is_here() -> None:
    members = get_args(get_args(ModelSpec)[0])
    assert set(SIZES) == {member.model_fields["kind"].annotation.__args__[0] for member in members}


def builder(kind: str, stem: str) -> Build:
    """Return what builds a small model with a stem, from one seed."""
    spec: Any = TypeAdapter(ModelSpec).validate_python({"kind": kind, "stem": fields_of(stem, {}), **SIZES[kind]})

    def build(**options: object) -> Backbone:
        torch.manual_seed(0)
        built = implementation("models", kind)(spec, 5, GRID, **options)
        assert isinstance(built, Backbone)
        return built

    return build


@pytest.fixture(params=[(model, stem) for model in SIZES for stem in STEMS], ids="/".join)
def make(request: pytest.FixtureRequest) -> Build:
    return builder(*request.param)


@pytest.fixture(params=STEMS)
def with_token(request: pytest.FixtureRequest) -> Build:
    return builder("vit", request.param)


@pytest.fixture(params=[kind for kind in SIZES if kind != "vit"])
def merging(request: pytest.FixtureRequest) -> Build:
    return builder(request.param, "patchify")


def test_the_attributes_say_what_goes_in_and_out(make: Build) -> None:
    backbone = make()
    values = torch.randn(2, backbone.in_channels, *backbone.input_grid)
    count = backbone.patch_grid[0] * backbone.patch_grid[1]
    patches = backbone.embed(values)
    assert backbone.input_grid == GRID
    assert backbone.stem(values).shape == (2, backbone.stem_width, *backbone.patch_grid)
    assert patches.shape == (2, count, backbone.stem_width)
    encoded = backbone.encode(patches)
    assert encoded.shape[0] == 2
    assert encoded.shape[2] == backbone.width
    assert encoded.shape[1] == 1 + count if backbone.has_class_token else encoded.shape[1] <= count
    assert backbone(values).shape == backbone.pool(encoded).shape == (2, backbone.width)


def test_keeping_all_patches_in_order_changes_nothing(with_token: Build) -> None:
    backbone = with_token().eval()
    patches = backbone.embed(torch.randn(2, 5, *GRID))
    kept = torch.arange(patches.shape[1]).expand(2, -1)
    torch.testing.assert_close(backbone.encode(patches, kept), backbone.encode(patches))


def test_an_order_of_kept_patches_orders_the_output(with_token: Build) -> None:
    backbone = with_token().eval()
    patches = backbone.embed(torch.randn(2, 5, *GRID))
    kept = torch.stack([torch.randperm(patches.shape[1]) for _ in range(2)])
    expected = backbone.encode(patches)[:, 1:].take_along_dim(kept[:, :, None], 1)
    torch.testing.assert_close(backbone.encode(patches, kept)[:, 1:], expected, atol=1e-5, rtol=1e-5)


def test_no_patch_at_all_leaves_the_class_token(with_token: Build) -> None:
    backbone = with_token().eval()
    patches = backbone.embed(torch.randn(2, 5, *GRID))
    assert backbone.encode(patches, torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 1, backbone.width)


def test_without_a_class_token_what_needs_one_or_single_patches_is_an_error(merging: Build) -> None:
    backbone = merging().eval()
    assert not backbone.has_class_token
    patches = backbone.embed(torch.randn(2, 5, *GRID))
    with pytest.raises(InputError, match="leave some of them out"):
        backbone.encode(patches, torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(InputError, match=r"model\.kind: vit"):
        backbone.place(patches)
    with pytest.raises(ValueError, match="no class token"):
        backbone.pool(backbone.encode(patches), "cls")
    with pytest.raises(InputError, match="no table of positions"):
        merging(positions="sincos")


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
    assert {id(parameter) for parameter in backbone.stem.parameters()} <= {id(parameter) for parameter in groups[0]}
    assert {id(parameter) for parameter in groups[-1]} == {id(parameter) for parameter in backbone.norm.parameters()}


def test_undecayed_names_are_parameters_of_more_than_one_dimension(make: Build) -> None:
    backbone = make()
    found = dict(backbone.named_parameters())
    assert all(found[name].ndim > 1 for name in backbone.undecayed())


def test_weights_of_a_fixed_table_of_positions_load_strictly_into_a_learned_one(with_token: Build) -> None:
    fixed, learned = with_token(positions="sincos"), with_token(positions="learned", drop_path=0.2)
    learned.load_state_dict(fixed.state_dict(), strict=True)
    values = torch.randn(2, 5, *GRID)
    assert torch.equal(learned.eval()(values), fixed.eval()(values))


def test_stochastic_depth_adds_no_weights_and_is_off_in_evaluation(make: Build) -> None:
    plain, dropping = make(), make(drop_path=0.5)
    dropping.load_state_dict(plain.state_dict(), strict=True)
    values = torch.randn(2, 5, *GRID)
    assert torch.equal(dropping.eval()(values), plain.eval()(values))


def test_equal_seeds_give_equal_models(make: Build) -> None:
    first, second = make().state_dict(), make().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_lower_precision_works(make: Build) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.isfinite(make()(torch.randn(2, 5, *GRID))).all()
