import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from tests.objectives.building import stir, vit_spec
from tokexp.models.vit import VisionTransformer, build
from tokexp.objectives.base import ObjectiveContext
from tokexp.objectives.supervised import build as build_supervised
from tokexp.spec.objectives import Supervised


def small(positions: str = "learned", drop_path: float = 0.0, **fields: object) -> VisionTransformer:
    torch.manual_seed(0)
    return build(vit_spec(**fields), 6, (8, 12), drop_path, positions)  # type: ignore[arg-type]


def reference_blocks(vit: VisionTransformer, tokens: Tensor, heads: int) -> Tensor:
    """Return what pre-norm transformer blocks make of tokens, by the formulas of Dosovitskiy et al. 2021."""
    weights = dict(vit.named_parameters())
    for number in range(len(vit.blocks)):
        part = {name.removeprefix(f"blocks.{number}."): value for name, value in weights.items()}
        normed = layer_norm(tokens, tokens.shape[-1:], part["norm1.weight"], part["norm1.bias"], 1e-6)
        mixed = normed @ part["attn.qkv.weight"].T + part["attn.qkv.bias"]
        q, k, v = (torch.stack(each.chunk(heads, dim=-1), dim=1) for each in mixed.chunk(3, dim=-1))
        weighted = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1) @ v
        joined = torch.cat(list(weighted.unbind(1)), dim=-1)
        tokens = tokens + joined @ part["attn.proj.weight"].T + part["attn.proj.bias"]
        normed = layer_norm(tokens, tokens.shape[-1:], part["norm2.weight"], part["norm2.bias"], 1e-6)
        hidden = gelu(normed @ part["mlp.fc1.weight"].T + part["mlp.fc1.bias"])
        tokens = tokens + hidden @ part["mlp.fc2.weight"].T + part["mlp.fc2.bias"]
    return tokens


@pytest.mark.parametrize(("size", "parameters"), [("base", 86_371_048), ("small", 21_952_360)])
def test_seits_supervised_models_have_their_published_sizes(size: str, parameters: int) -> None:
    with torch.device("meta"):
        vit = build(vit_spec("conv4x4", size=size), 32, (28, 28))
        model = build_supervised(Supervised(kind="supervised"), ObjectiveContext(vit, nn.Identity(), 1000))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_encoding_equals_the_formulas_with_the_class_token_first() -> None:
    vit = small(width=24, heads=3, depth=3)
    stir(vit)
    patches = vit.embed(torch.randn(2, 6, 8, 12))
    first = (vit.class_token + vit.positions[:, :1]).expand(2, -1, -1)
    tokens = torch.cat([first, patches + vit.positions[:, 1:]], dim=1)
    torch.testing.assert_close(vit.encode(patches), reference_blocks(vit, tokens, 3), atol=1e-5, rtol=1e-5)


def test_patches_are_numbered_row_by_row() -> None:
    vit = small()
    values = torch.randn(1, 6, 8, 12)
    assert vit.patch_grid == (4, 6)
    torch.testing.assert_close(vit.embed(values)[0, 1 * 6 + 2], vit.stem(values)[0, :, 1, 2])


def test_kept_patches_keep_their_own_positions_in_the_order_given() -> None:
    vit = small().eval()
    stir(vit)
    patches, kept = vit.embed(torch.randn(2, 6, 8, 12)), torch.tensor([[5, 0, 23], [1, 2, 3]])
    expected = []
    for sample, chosen in zip(patches, kept, strict=True):
        first = vit.class_token[0] + vit.positions[0, :1]
        tokens = torch.cat([first, sample[chosen] + vit.positions[0, 1:][chosen]])
        expected.append(reference_blocks(vit, tokens[None], 2)[0])
    torch.testing.assert_close(vit.encode(patches, kept), torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_the_mean_leaves_the_class_token_out_and_the_norm_comes_last() -> None:
    vit = small()
    stir(vit)
    encoded = torch.randn(3, 25, 24)
    mean = layer_norm(encoded[:, 1:].mean(1), (24,), vit.norm.weight, vit.norm.bias, 1e-6)  # type: ignore[arg-type]
    token = layer_norm(encoded[:, 0], (24,), vit.norm.weight, vit.norm.bias, 1e-6)  # type: ignore[arg-type]
    torch.testing.assert_close(vit.pool(encoded), mean)
    torch.testing.assert_close(vit.pool(encoded, "cls"), token)
    with pytest.raises(ValueError, match="'mean' or 'cls'"):
        vit.pool(encoded, "max")


def test_fixed_positions_are_not_trained_and_load_into_learned_ones() -> None:
    fixed, learned = small("sincos"), small("learned", drop_path=0.1)
    assert not fixed.positions.requires_grad
    assert learned.positions.requires_grad
    learned.load_state_dict(fixed.state_dict())
    assert torch.equal(learned.positions, fixed.positions)
    assert learned.positions.requires_grad
    assert torch.equal(fixed.positions[:, 0], torch.zeros(1, 24))


def test_other_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="'learned' or 'sincos'"):
        small("rotary")


def test_stochastic_depth_rises_linearly_to_the_last_block() -> None:
    vit = small(drop_path=0.3, depth=4)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in vit.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_first_weights_have_a_deviation_of_two_hundredths_and_no_outliers() -> None:
    vit = small(width=192, heads=3)
    weight = vit.blocks[0].mlp.fc1.weight  # type: ignore[union-attr]
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert weight.abs().max().item() < 0.12


def test_an_input_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="no patch"):
        build(vit_spec("patchify"), 3, (8, 8))
