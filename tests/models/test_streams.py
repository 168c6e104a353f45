"""Two streams on timm's blocks: against timm's own pass with a square mask, and against the plain transformer."""

import pytest
import torch
from torch import Tensor

from tests.objectives.building import stir, vit_spec
from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.models.streams import Streams, additive, through_block
from tokexp.models.vit import VisionTransformer, build

FREE, TARGETS = 5, 4


def vit(**fields: object) -> VisionTransformer:
    torch.manual_seed(0)
    built = build(vit_spec(depth=3, **fields), 6, (8, 12))
    stir(built)
    return built.eval()


def seen() -> Tensor:
    """Return a random mask (2 T, free + T) in which every row sees something."""
    mask = torch.rand(2 * TARGETS, FREE + TARGETS, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[:, 0] = True
    return mask


def square(mask: Tensor) -> Tensor:
    """Return the same rule for all rows as keys: free rows see free rows, and nothing sees a query."""
    rows = FREE + 2 * TARGETS
    whole = torch.zeros(rows, rows, dtype=torch.bool)
    whole[:FREE, :FREE] = True
    whole[FREE:, : FREE + TARGETS] = mask
    return whole


@pytest.mark.parametrize("layer_scale", [None, 0.1])
def test_blocks_with_fewer_keys_equal_timms_pass_with_a_square_mask(layer_scale: float | None) -> None:
    model, mask = vit(layer_scale=layer_scale), seen()
    rows = torch.randn(2, FREE + 2 * TARGETS, 24)
    plain = rows
    for block in model.blocks:
        plain = block(plain, attn_mask=square(mask))
    expected = torch.autograd.grad(plain[:, FREE + TARGETS :].square().sum(), list(model.blocks.parameters()))
    queries = model.two_streams(rows, Streams(FREE, TARGETS, additive(mask)))
    torch.testing.assert_close(queries, plain[:, FREE + TARGETS :], atol=1e-5, rtol=1e-5)
    found = torch.autograd.grad(queries.square().sum(), list(model.blocks.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-4)


def test_the_content_stream_without_targets_is_the_plain_transformer() -> None:
    model = vit()
    patches = model.embed(torch.randn(2, 6, 8, 12))
    rows, nobody = model.place(patches), Streams(25, 0, torch.zeros(0, 25))
    for block in model.blocks:
        rows = through_block(block, rows, nobody)
    torch.testing.assert_close(rows, model.encode(patches), atol=1e-5, rtol=1e-5)


def test_a_backbone_without_such_blocks_says_so() -> None:
    with pytest.raises(InputError, match=r"model\.kind: vit"):
        Backbone.two_streams(vit(), torch.zeros(1), Streams(1, 0, torch.zeros(0, 1)))
    with pytest.raises(InputError, match=r"model\.kind: vit"):
        Backbone.place(vit(), torch.zeros(1))


def test_rescaled_branches_start_smaller_from_block_to_block() -> None:
    plain, rescaled = (build(vit_spec(depth=3, rescale=flag), 6, (8, 12)) for flag in (False, True))
    rescaled.load_state_dict(plain.state_dict())
    rescaled._rescale()
    for number, (one, other) in enumerate(zip(plain.blocks, rescaled.blocks, strict=True), 1):
        for name in ("attn.proj", "mlp.fc2"):
            ratio = other.get_submodule(name).weight / one.get_submodule(name).weight
            torch.testing.assert_close(ratio, torch.full_like(ratio, (2 * number) ** -0.5))
        assert torch.equal(one.get_submodule("attn.qkv").weight, other.get_submodule("attn.qkv").weight)
