"""TokenAdapt: sizes of its networks (S17, S18), that it is frozen (S19), what it gives back (S20 to S22)."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tokexp.augment import geometry
from tokexp.augment.adapt_networks import AdaptNetworks, fixed_positions
from tokexp.augment.base import AugmentContext
from tokexp.augment.mixing import cutmix_weights
from tokexp.augment.token_adapt import TokenAdapt, build
from tokexp.data.base import Batch
from tokexp.spec import augment as spec
from tokexp.tokenizers.base import Codebook


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(upscale=2, stored=(4, 4), model=(4, 4)):
    torch.manual_seed(0)
    codebook = Codebook(torch.randn(16, 4, generator=seeded()))
    return codebook, AdaptNetworks(spec.AdaptSpec(width=16, heads=2, upscale=upscale), codebook, stored, model)


def tokens(count=6, codes=16, side=4):
    return Batch(torch.arange(count) % 3, 3, indices=torch.randint(codes, (count, side, side), generator=seeded(3)))


def adapt(codebook, networks, **fields):
    step = spec.TokenAdapt(kind="token_adapt", **fields)
    return build(step, AugmentContext(networks.model_grid, codebook, networks))


def count(module):
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@pytest.fixture(scope="module")
def published():
    codebook = Codebook(torch.randn(391, 32, generator=seeded()))
    return codebook, AdaptNetworks(spec.AdaptSpec(), codebook, (32, 32), (28, 28))


def test_the_published_sizes_have_the_published_number_of_parameters(published):
    networks = published[1]
    assert count(networks) == 3_810_087
    assert count(networks.f) == 1_835_936
    assert count(networks.g) == 1_974_151
    assert count(networks.f.block) == count(networks.g.block) == 1_773_312
    assert sum(item.numel() for item in networks.state_dict().values()) == 4_504_359


def test_the_published_shapes(published):
    networks = published[1]
    assert networks.to_space(torch.zeros(2, 32, 32, 32)).shape == (2, 32, 64, 64)
    assert networks.to_logits(torch.zeros(2, 32, 56, 56)).shape == (2, 784, 391)
    with pytest.raises(ValueError, match="embeddings of 32 x 32, and these are 28 x 28"):
        networks.to_space(torch.zeros(1, 32, 28, 28))
    with pytest.raises(ValueError, match="maps of 56 x 56, and these are 64 x 64"):
        networks.to_logits(torch.zeros(1, 32, 64, 64))


def test_the_block_is_pre_norm_attention_and_a_tanh_mlp():
    _, networks = small()
    block, values = networks.f.block, torch.randn(2, 5, 16, generator=seeded())
    with torch.no_grad():
        normed = nn.functional.layer_norm(values, (16,), block.norm1.weight, block.norm1.bias, 1e-5)
        queries, keys, found = (normed @ block.attn.qkv.weight.T).view(2, 5, 3, 2, 8).permute(2, 0, 3, 1, 4)
        weights = (queries @ keys.transpose(-1, -2) / math.sqrt(8)).softmax(-1)
        mixed = (weights @ found).transpose(1, 2).reshape(2, 5, 16)
        middle = values + mixed @ block.attn.proj.weight.T + block.attn.proj.bias
        normed = nn.functional.layer_norm(middle, (16,), block.norm2.weight, block.norm2.bias, 1e-5)
        hidden = torch.tanh(normed @ block.mlp.fc1.weight.T + block.mlp.fc1.bias)
        expected = middle + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias
        assert torch.allclose(block(values), expected, atol=1e-5)
    assert block.attn.qkv.bias is None
    assert block.mlp.fc1.weight.shape == (64, 16)


def test_positions_encode_the_column_first_then_the_row():
    table = fixed_positions((3, 5), 16)[0]
    for row in range(3):
        for column in range(5):
            expected = [
                function(place * 10000 ** (-i / 4))
                for place in (column, row)
                for function in (math.sin, math.cos)
                for i in range(4)
            ]
            assert torch.allclose(table[row * 5 + column], torch.tensor(expected), atol=1e-6)


def test_weights_are_xavier_uniform_and_biases_zero(published):
    networks = published[1]
    for weight in (networks.f.embed.weight, networks.g.shrink.weight, networks.f.expand.weight, networks.g.head.weight):
        flat = weight.flatten(1)
        bound = math.sqrt(6 / sum(flat.shape))
        assert 0.98 * bound < flat.abs().max() <= bound
    assert not networks.g.head.bias.any()
    assert not networks.f.expand.bias.any()


@pytest.mark.parametrize("upscale", [1, 2, 4])
def test_every_upscale_comes_back_to_the_models_grid(upscale):
    codebook, networks = small(upscale, stored=(6, 6), model=(4, 4))
    found = adapt(codebook, networks)(tokens(side=6), seeded())
    assert found.values.shape == (6, 4, 4, 4)


@pytest.mark.parametrize("quantize", ["argmax", "nearest"])
def test_every_vector_that_comes_back_is_a_code(quantize):
    codebook, networks = small()
    found = adapt(codebook, networks, quantize=quantize)(tokens(), seeded()).values
    assert torch.equal(codebook.lookup(codebook.nearest(found)), found)


def test_networks_are_left_without_gradients_and_in_eval_mode():
    codebook, networks = small()
    step = adapt(codebook, networks.train())
    batch = tokens()
    values = batch.with_values(codebook.lookup(batch.indices).requires_grad_())
    assert not step(values, seeded()).values.requires_grad
    assert all(parameter.grad is None for parameter in networks.parameters())
    assert not networks.training
    assert not isinstance(step, nn.Module)


class Stub(nn.Module):
    """Networks that repeat cells 2 x 2 and read logits as the negative distance to every code."""

    def __init__(self, codebook, grid):
        super().__init__()
        self.codebook, self.model_grid = codebook, grid
        self.space_size = (grid[0] * 2, grid[1] * 2)

    def to_space(self, values):
        return values.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def to_logits(self, space):
        means = nn.functional.avg_pool2d(space, 2).flatten(2).transpose(1, 2)
        return -torch.cdist(means, self.codebook.codes) * 100


STILL = spec.Geometry(hflip=0.0, affine=0.0, rrc=None)


@pytest.mark.parametrize("quantize", ["argmax", "nearest"])
def test_with_no_geometry_networks_that_invert_each_other_give_the_tokens_back(quantize):
    codebook = small()[0]
    step = adapt(codebook, Stub(codebook, (4, 4)), geometry=STILL, quantize=quantize)
    batch = tokens()
    assert torch.equal(step(batch, seeded()).values, codebook.lookup(batch.indices))


def test_a_flip_in_the_space_is_a_flip_of_the_tokens():
    codebook = small()[0]
    step = adapt(codebook, Stub(codebook, (4, 4)), geometry=spec.Geometry(hflip=1.0, affine=0.0, rrc=None))
    batch = tokens()
    assert torch.equal(step(batch, seeded()).values, codebook.lookup(batch.indices.flip(2)))


def test_argmax_takes_the_largest_logit_and_nearest_the_code_at_the_expected_vector():
    codebook = Codebook(torch.tensor([[0.0], [1.0], [2.0]]))
    logits = torch.tensor([[[2.0, -9.0, 1.9]]])
    networks = SimpleNamespace(model_grid=(1, 1), eval=lambda: networks)
    chosen = []
    for quantize in ("argmax", "nearest"):
        step = TokenAdapt(spec.TokenAdapt(kind="token_adapt", quantize=quantize), codebook, networks)
        chosen.append(step._quantized(logits).item())
    assert chosen == [0, 1]


def test_cutmix_in_the_space_gives_whole_tokens_to_one_of_the_pair_and_mixes_the_targets_by_area():
    codebook = small()[0]
    step = adapt(codebook, Stub(codebook, (4, 4)), geometry=STILL, cutmix=1.0)
    batch = replace(tokens(), labels=torch.arange(6), num_classes=6)
    own = codebook.lookup(batch.indices)
    for seed in range(20):
        found, generator = step(batch, seeded(seed)), seeded(seed)
        geometry.draw(STILL, 6, generator)
        weights = cutmix_weights((8, 8), 1.0, generator)
        cells = nn.functional.avg_pool2d(weights[None], 2)[0]
        assert torch.equal(found.values[..., cells == 1], own[..., cells == 1])
        assert torch.equal(found.values[..., cells == 0], own.flip(0)[..., cells == 0])
        share = weights.mean()
        assert torch.allclose(found.targets, share * torch.eye(6) + (1 - share) * torch.eye(6).flip(0), atol=1e-6)


def test_mixup_and_cutmix_are_switched_per_batch():
    codebook = small()[0]
    step = adapt(codebook, Stub(codebook, (8, 8)), mixup=0.8, cutmix=1.0, switch_prob=0.25)
    boxes = sum(len(step._weights((16, 16), seeded(seed)).unique()) == 2 for seed in range(300))
    # A box of no cells looks like a Mixup of weight 1.
    assert 0.17 < boxes / 300 < 0.31


def test_without_mixing_targets_stay_labels():
    codebook, networks = small()
    assert adapt(codebook, networks)(tokens(), seeded()).targets is None


def test_released_takes_argmax_one_draw_per_batch_and_positive_shears():
    step = spec.TokenAdapt(kind="token_adapt", preset="released")
    assert step.quantize == "argmax"
    assert (step.geometry.scope, step.geometry.shear_sign, step.geometry.resample) == ("per_batch", "positive", "each")
    paper = spec.TokenAdapt(kind="token_adapt")
    assert paper.quantize == "nearest"
    assert (paper.geometry.scope, paper.geometry.shear_sign) == ("per_sample", "symmetric")


def test_missing_networks_are_said_when_the_step_is_built():
    codebook = small()[0]
    with pytest.raises(ValueError, match="needs the trained networks of the stage `adapt`"):
        build(spec.TokenAdapt(kind="token_adapt"), AugmentContext((4, 4), codebook))
    with pytest.raises(ValueError, match="reads pixels"):
        build(spec.TokenAdapt(kind="token_adapt"), AugmentContext((4, 4)))
