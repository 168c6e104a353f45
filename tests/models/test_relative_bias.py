"""Biases of relative positions against loops over patches, and the sizes of published models that have them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from tests.objectives.building import CLASSES, context, pixel_batch, predictor, stir, vit_spec
from tokexp.errors import InputError
from tokexp.models.pixel_input import PixelInput
from tokexp.models.relative_bias import BiasedAttention, RelativeBias, folded
from tokexp.models.vit import VisionTransformer, build
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.targets.base import Target
from tokexp.objectives.targets.momentum import MomentumEncoder
from tokexp.registry import implementation
from tokexp.spec.distill import Dtm

RELATIVE = ("relative_shared", "relative_blocks", "relative_both")


def small(positions: str, **fields: object) -> VisionTransformer:
    torch.manual_seed(0)
    return build(vit_spec(positions=positions, **fields), 6, (4, 6))


def expected_bias(bias: RelativeBias, grid: tuple[int, int], head: int) -> Tensor:
    """Return (1 + N, 1 + N) of a head: patches by the difference of rows and columns, then the three of the token."""
    rows, columns = grid
    places = [(row, column) for row in range(rows) for column in range(columns)]
    differences = [(r, c) for r in range(1 - rows, rows) for c in range(1 - columns, columns)]
    table = bias.table.detach()[:, head].tolist()
    of_difference = dict(zip(differences, table, strict=False))
    to_patch, to_class, itself = table[len(differences) :]
    result = torch.empty(1 + len(places), 1 + len(places))
    result[0, :], result[:, 0], result[0, 0] = to_patch, to_class, itself
    for i, one in enumerate(places):
        for j, other in enumerate(places):
            result[1 + i, 1 + j] = of_difference[one[0] - other[0], one[1] - other[1]]
    return result


@pytest.mark.parametrize("grid", [(2, 3), (4, 4), (1, 5)])
def test_a_bias_is_that_of_the_difference_in_row_and_column(grid: tuple[int, int]) -> None:
    bias = RelativeBias(grid, 2)
    nn.init.normal_(bias.table)
    for head in range(2):
        torch.testing.assert_close(bias()[head], expected_bias(bias, grid, head))


def biased_blocks(vit: VisionTransformer, tokens: Tensor, heads: int) -> Tensor:
    """Return what pre-norm blocks with biases on their scores make of tokens, from the weights alone."""
    weights, bias = dict(vit.named_parameters()), vit.bias
    assert bias is not None
    for number in range(len(vit.blocks)):
        part = {name.removeprefix(f"blocks.{number}."): value for name, value in weights.items()}
        normed = layer_norm(tokens, tokens.shape[-1:], part["norm1.weight"], part["norm1.bias"], 1e-6)
        q, k, v = (normed @ part["attn.qkv.weight"].T + part["attn.qkv.bias"]).chunk(3, dim=-1)
        joined = []
        for head, (one, other, value) in enumerate(zip(*(each.chunk(heads, -1) for each in (q, k, v)), strict=True)):
            scores = one @ other.mT / one.shape[-1] ** 0.5
            if bias.shared is not None:
                scores = scores + expected_bias(bias.shared, vit.patch_grid, head)
            if len(bias.blocks):
                scores = scores + expected_bias(bias.blocks[number], vit.patch_grid, head)  # type: ignore[arg-type]
            joined.append(scores.softmax(-1) @ value)
        tokens = tokens + torch.cat(joined, -1) @ part["attn.proj.weight"].T + part["attn.proj.bias"]
        normed = layer_norm(tokens, tokens.shape[-1:], part["norm2.weight"], part["norm2.bias"], 1e-6)
        hidden = gelu(normed @ part["mlp.fc1.weight"].T + part["mlp.fc1.bias"])
        tokens = tokens + hidden @ part["mlp.fc2.weight"].T + part["mlp.fc2.bias"]
    return tokens


@pytest.mark.parametrize("positions", RELATIVE)
def test_encoding_equals_the_formulas_and_adds_nothing_to_the_patches(positions: str) -> None:
    vit = small(positions, width=24, heads=3, depth=3)
    stir(vit)
    patches = vit.embed(torch.randn(2, 6, 4, 6))
    tokens = torch.cat([vit.class_token.expand(2, -1, -1), patches], dim=1)
    torch.testing.assert_close(vit.encode(patches), biased_blocks(vit, tokens, 3), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "positions", "parameters"),
    [("base", "relative_both", 86.17e6), ("small", "relative_both", 21.85e6)],
)
def test_dtms_models_with_head_and_mask_vector_have_their_published_sizes(
    size: str, positions: str, parameters: float
) -> None:
    spec = Dtm.model_validate({"kind": "dtm", "target": {"kind": "momentum"}})
    with torch.device("meta"):
        stem = {"kind": "patchify", "patch_size": 16}
        vit = build(vit_spec(stem, size=size, positions=positions, layer_scale=0.1), 3, (224, 224))
        made: Any = implementation("objectives", "dtm")(spec, ObjectiveContext(vit, PixelInput("half"), CLASSES))
        made.term.head = nn.Linear(vit.width, 512)
    own = sum(each.numel() for name, each in made.named_parameters() if ".target." not in name)
    assert own == pytest.approx(parameters, abs=0.005e6)


@pytest.mark.parametrize(("positions", "tables"), [("relative_shared", 1), ("relative_blocks", 12)])
def test_tables_have_a_row_for_every_difference_and_three_for_the_class_token(positions: str, tables: int) -> None:
    bias = BiasedAttention(positions, (14, 14), 12, 12)
    assert sum(each.numel() for each in bias.parameters()) == tables * 732 * 12


@pytest.mark.parametrize("positions", ["relative_shared", "relative_both"])
def test_folding_the_shared_table_into_those_of_the_blocks_leaves_the_output_as_it_was(positions: str) -> None:
    before, after = small(positions), small("relative_blocks")
    stir(before)
    after.load_state_dict(folded(before.state_dict(), after.state_dict().keys()))
    patches = before.embed(torch.randn(2, 6, 4, 6))
    torch.testing.assert_close(after.encode(patches), before.encode(patches))
    assert before.bias is not None
    assert before.bias.shared is not None
    assert before.bias.shared.table.abs().sum() > 0


def test_nothing_is_folded_where_the_other_model_shares_a_table_too() -> None:
    state = small("relative_both").state_dict()
    assert folded(state, state.keys()) == state


@pytest.mark.parametrize("positions", RELATIVE)
def test_tables_are_decayed_and_belong_to_their_blocks_or_to_the_last_group(positions: str) -> None:
    vit = small(positions)
    assert vit.undecayed() == {"class_token"}
    groups = vit.layer_groups()
    listed = [id(each) for group in groups for each in group]
    assert len(listed) == len(set(listed)) == len(list(vit.parameters()))
    assert vit.bias is not None
    if vit.bias.shared is not None:
        assert id(vit.bias.shared.table) in map(id, groups[-1])
    for number, own in enumerate(vit.bias.blocks, 1):
        assert id(own.table) in map(id, groups[number])


@pytest.mark.parametrize("kind", ["mim", "beit"])
def test_an_objective_over_all_patches_trains_the_tables(kind: str) -> None:
    fields = {} if kind == "mim" else {"blocks": {"smallest": 10}}
    objective = predictor(kind, pixels=True, vit=vit_spec(positions="relative_both"), **fields)
    stir(objective)
    with torch.autocast("cpu", torch.bfloat16):
        low = objective(pixel_batch(), torch.Generator().manual_seed(0)).loss
    loss = objective(pixel_batch(), torch.Generator().manual_seed(0)).loss
    torch.testing.assert_close(low, loss, atol=0.05, rtol=0)
    loss.backward()
    grads = [each.grad for name, each in objective.named_parameters() if ".bias." in name and name.endswith("table")]
    assert len(grads) == 3
    assert all(each is not None and each.abs().sum() > 0 for each in grads)
    assert objective.undecayed() == {"backbone.class_token"}


def test_what_needs_patches_apart_is_refused() -> None:
    vit = small("relative_shared")
    patches = vit.embed(torch.randn(2, 6, 4, 6))
    with pytest.raises(InputError, match=r"to leave some out, write model\.positions: absolute"):
        vit.encode(patches, torch.tensor([[0, 1], [1, 2]]))
    with pytest.raises(InputError, match="two streams"):
        predictor("mapet", pixels=True, vit=vit_spec(positions="relative_shared"))(
            pixel_batch(), torch.Generator().manual_seed(0)
        )
    with pytest.raises(InputError, match="sincos need"):
        build(vit_spec(positions="relative_shared"), 6, (4, 6), positions="sincos")
    target: Target = MomentumEncoder(vit, context(vit_spec()).token_input, 0.5)
    with pytest.raises(InputError, match="cannot be run"):
        target.blocks()
    with pytest.raises(ValueError, match=r"stem\.blocks"):
        vit_spec({"kind": "moto", "blocks": [1]}, positions="relative_shared")
