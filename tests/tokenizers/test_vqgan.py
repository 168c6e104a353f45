"""vqgan against the formulas, written as functions of the published names; its four variants; argmax without noise."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.tokenizers.published import random_tokenizer
from tokexp.errors import DataError, InputError
from tokexp.spec.tokenizers import Vqgan
from tokexp.tokenizers.vqgan import build

SHAPE = (3, 16, 8)
Weights = dict[str, Tensor]


def small(**fields: Any) -> Vqgan:
    sizes = {"width": 4, "multipliers": (1, 2, 2), "blocks": 2, "z_channels": 6, "code_dim": 5, "codebook_size": 11}
    return Vqgan(**{"kind": "vqgan", "checkpoint": "absent.ckpt", **sizes, **fields})


GUMBEL: dict[str, Any] = {"variant": "f8_8192", "code_dim": 6}


def conv(x: Tensor, w: Weights, name: str, padding: int = 1, stride: int = 1) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], stride=stride, padding=padding)


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    groups = x.reshape(len(x), min(32, x.shape[1]), -1)
    centred = groups - groups.mean(2, keepdim=True)
    scaled = (centred / (centred.square().mean(2, keepdim=True) + 1e-6).sqrt()).view_as(x)
    return scaled * w[f"{name}.weight"].view(1, -1, 1, 1) + w[f"{name}.bias"].view(1, -1, 1, 1)


def swish(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def block(x: Tensor, w: Weights, name: str) -> Tensor:
    h = conv(swish(norm(x, w, f"{name}.norm1")), w, f"{name}.conv1")
    h = conv(swish(norm(h, w, f"{name}.norm2")), w, f"{name}.conv2")
    return h + (conv(x, w, f"{name}.nin_shortcut", 0) if f"{name}.nin_shortcut.weight" in w else x)


def attention(x: Tensor, w: Weights, name: str) -> Tensor:
    n, c, rows, columns = x.shape
    h = norm(x, w, f"{name}.norm")
    q, k, v = (conv(h, w, f"{name}.{part}", 0).reshape(n, c, -1) for part in "qkv")
    weights = torch.softmax(torch.einsum("nci,ncj->nij", q, k) / math.sqrt(c), dim=2)
    mixed = torch.einsum("nij,ncj->nci", weights, v).view(n, c, rows, columns)
    return x + conv(mixed, w, f"{name}.proj_out", 0)


def middle(x: Tensor, w: Weights, name: str) -> Tensor:
    return block(attention(block(x, w, f"{name}.block_1"), w, f"{name}.attn_1"), w, f"{name}.block_2")


def level(x: Tensor, w: Weights, name: str, count: int) -> Tensor:
    for place in range(count):
        x = block(x, w, f"{name}.block.{place}")
        if f"{name}.attn.{place}.q.weight" in w:
            x = attention(x, w, f"{name}.attn.{place}")
    return x


def encoded(images: Tensor, w: Weights, spec: Vqgan) -> Tensor:
    x = conv(2 * images - 1, w, "encoder.conv_in")
    for number in range(len(spec.multipliers)):
        x = level(x, w, f"encoder.down.{number}", spec.blocks)
        if number < len(spec.multipliers) - 1:
            x = conv(F.pad(x, (0, 1, 0, 1)), w, f"encoder.down.{number}.downsample.conv", 0, 2)
    x = conv(swish(norm(middle(x, w, "encoder.mid"), w, "encoder.norm_out")), w, "encoder.conv_out")
    return conv(x, w, "quant_conv", 0)


def decoded(codes: Tensor, w: Weights, spec: Vqgan) -> Tensor:
    x = middle(conv(conv(codes, w, "post_quant_conv", 0), w, "decoder.conv_in"), w, "decoder.mid")
    for number in reversed(range(len(spec.multipliers))):
        x = level(x, w, f"decoder.up.{number}", spec.blocks + 1)
        if number > 0:
            doubled = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = conv(doubled, w, f"decoder.up.{number}.upsample.conv")
    x = conv(swish(norm(x, w, "decoder.norm_out")), w, "decoder.conv_out")
    return ((x + 1) / 2).clamp(0, 1)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_tokens_and_pixels_are_those_of_the_formulas(images: Tensor) -> None:
    spec = small()
    tokenizer = random_tokenizer(spec, SHAPE)
    w = tokenizer.state_dict()
    z, codes = encoded(images, w, spec), w["quantize.embedding.weight"]
    expected = (z[:, None] - codes.view(1, -1, 5, 1, 1)).square().sum(2).argmin(1)
    tokens = tokenizer.encode(images)
    assert torch.equal(tokens, expected)
    assert len(tokens.unique()) >= 3
    assert torch.allclose(tokenizer.decode(tokens), decoded(codes[tokens].permute(0, 3, 1, 2), w, spec), atol=1e-4)


def test_gumbels_tokens_are_the_largest_logits_and_the_same_every_time(images: Tensor) -> None:
    spec = small(**GUMBEL)
    tokenizer = random_tokenizer(spec, SHAPE)
    w = tokenizer.state_dict()
    logits = conv(encoded(images, w, spec), w, "quantize.proj", 0)
    for mode in (True, False):
        tokenizer.train(mode)
        assert torch.equal(tokenizer.encode(images), logits.argmax(1))
    codes = w["quantize.embed.weight"][tokenizer.encode(images)].permute(0, 3, 1, 2)
    assert torch.allclose(tokenizer.decode(tokenizer.encode(images)), decoded(codes, w, spec), atol=1e-4)


def test_the_names_are_the_published_ones() -> None:
    spec = small(blocks=1)
    names = set(build(spec, SHAPE).state_dict())
    res = ["norm1", "conv1", "norm2", "conv2"]
    stems = ["encoder.conv_in", "encoder.norm_out", "encoder.conv_out", "quant_conv", "post_quant_conv"]
    stems += ["decoder.conv_in", "decoder.norm_out", "decoder.conv_out"]
    stems += [f"encoder.down.{i}.downsample.conv" for i in (0, 1)] + [f"decoder.up.{i}.upsample.conv" for i in (1, 2)]
    stems += [f"encoder.down.{i}.block.0.{part}" for i in range(3) for part in res]
    stems += [f"decoder.up.{i}.block.{b}.{part}" for i in range(3) for b in (0, 1) for part in res]
    stems += ["encoder.down.1.block.0.nin_shortcut", "decoder.up.0.block.0.nin_shortcut"]
    attended = ["encoder.down.2.attn.0", "decoder.up.2.attn.0", "decoder.up.2.attn.1"]
    attended += ["encoder.mid.attn_1", "decoder.mid.attn_1"]
    stems += [f"{name}.{part}" for name in attended for part in ("norm", "q", "k", "v", "proj_out")]
    stems += [f"{side}.mid.{part}.{inner}" for side in ("encoder", "decoder") for part in ("block_1", "block_2")
              for inner in res]  # fmt: skip
    assert names == {f"{name}.{end}" for name in stems for end in ("weight", "bias")} | {"quantize.embedding.weight"}
    gumbel = set(build(small(**GUMBEL), SHAPE).state_dict())
    assert {name for name in gumbel if name.startswith("quantize")} == {
        "quantize.proj.weight", "quantize.proj.bias", "quantize.embed.weight",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "codes", "side", "attended", "data"),
    [
        ("f16_1024", (1024, 256), 16, "encoder.down.4.attn.1.q.weight", "ImageNet-1k"),
        ("f16_16384", (16384, 256), 16, "encoder.down.4.attn.1.q.weight", "ImageNet-1k"),
        ("f8_256", (256, 4), 32, "encoder.down.3.attn.1.q.weight", "OpenImages"),
        ("f8_8192", (8192, 256), 32, "encoder.down.3.attn.1.q.weight", "OpenImages"),
    ],
)
def test_the_published_variants_have_their_grids_codes_and_attention(
    variant: Any, codes: tuple[int, int], side: int, attended: str, data: str
) -> None:
    with torch.device("meta"):
        tokenizer = build(Vqgan(kind="vqgan", variant=variant, checkpoint="x"), (3, 256, 256))
    assert tuple(tokenizer.codebook().shape) == codes
    assert tokenizer.info.grid == (side, side)
    assert Vqgan(kind="vqgan", variant=variant, checkpoint="x").grid((3, 224, 224)) == (side * 7 // 8,) * 2
    assert [name for name in tokenizer.state_dict() if name.startswith("encoder.down") and "attn.1.q.w" in name] == [
        attended
    ]
    assert tokenizer.info.outside_data == data


def test_a_file_with_losses_and_averages_is_loaded(images: Tensor, tmp_path: Path) -> None:
    made = random_tokenizer(small(), SHAPE)
    extra = {"loss.perceptual_loss.lin0.weight": torch.zeros(2), "model_ema.decay": torch.zeros(())}
    torch.save({"state_dict": {**made.state_dict(), **extra}, "global_step": 5}, tmp_path / "last.ckpt")
    loaded = build(small(checkpoint=str(tmp_path / "last.ckpt")), SHAPE)
    loaded.fit([])
    assert torch.equal(loaded.encode(images), made.encode(images))


def test_another_variants_file_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(random_tokenizer(small(**GUMBEL), SHAPE).state_dict(), tmp_path / "a.ckpt")
    with pytest.raises(DataError, match=r"kind vqgan.*lacks quantize\.embedding\.weight.*should not, quantize\.proj"):
        build(small(code_dim=6, checkpoint=str(tmp_path / "a.ckpt")), SHAPE).fit([])


def test_sides_that_do_not_divide_and_widths_without_groups_are_refused() -> None:
    with pytest.raises(InputError, match="4 pixels per token do not divide 16 x 6 pixels"):
        build(small(), (3, 16, 6))
    with pytest.raises(ValueError, match="must be a multiple of 32"):
        small(width=48)
