"""titok against the formulas on the published names, both ways; the order in which features are read; its sizes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.tokenizers.formulas import Weights, attended, dense, gelu, nearest_angle, norm, patches, unit
from tests.tokenizers.published import random_tokenizer
from tokexp.errors import DataError, InputError
from tokexp.spec.tokenizers import Titok
from tokexp.tokenizers.titok import build

SHAPE = (3, 12, 12)


def small(**fields: Any) -> Titok:
    sizes = {"tokens": 6, "width": 12, "depth": 2, "heads": 3, "patch_size": 4, "positions": 3}
    codes = {"codebook_size": 9, "code_dim": 5, "pixel_codes": 7, "pixel_code_dim": 6}
    levels = {"pixel_width": 4, "pixel_multipliers": (1, 2, 2)}
    return Titok(**{"kind": "titok", "checkpoint": "absent", **sizes, **codes, **levels, **fields})


def mixed(image: Tensor, row: Tensor, w: Weights, spec: Titok, side: str) -> Tensor:
    """Return what the blocks of `side` make of the class, an image's places and a row."""
    x = torch.cat([w[f"{side}.class_embedding"], image]) + w[f"{side}.positional_embedding"]
    row = row + w[f"{side}.latent_token_positional_embedding"]
    x = norm(torch.cat([x, row]), w, f"{side}.ln_pre")
    for i in range(spec.depth):
        at = f"{side}.transformer.{i}"
        joined = norm(x, w, f"{at}.ln_1") @ w[f"{at}.attn.in_proj_weight"].T + w[f"{at}.attn.in_proj_bias"]
        x = x + dense(attended(*joined.chunk(3, dim=1), spec.heads), w, f"{at}.attn.out_proj")
        x = x + dense(gelu(dense(norm(x, w, f"{at}.ln_2"), w, f"{at}.mlp.c_fc")), w, f"{at}.mlp.c_proj")
    return x


def reference(image: Tensor, w: Weights, spec: Titok) -> Tensor:
    """Return the indices of one image as a row, its numbers read in the release's order."""
    x = mixed(patches(image, w, "encoder.patch_embed"), w["latent_tokens"], w, spec, "encoder")
    numbers = norm(x[spec.positions**2 + 1 :], w, "encoder.ln_post").flatten().tolist()
    read = torch.tensor([[numbers[c * spec.tokens + t] for c in range(spec.width)] for t in range(spec.tokens)])
    z = read @ w["encoder.conv_out.weight"][:, :, 0, 0].T + w["encoder.conv_out.bias"]
    return nearest_angle(z, w["quantize.embedding.weight"])


def mean_codes(row: Tensor, w: Weights, spec: Titok) -> Tensor:
    """Return the mean pixel codes (width, side, side) of one row of indices."""
    codes = unit(w["quantize.embedding.weight"][row])
    masks = w["decoder.mask_token"][0].repeat(spec.positions**2, 1)
    x = mixed(masks, dense(codes, w, "decoder.decoder_embed"), w, spec, "decoder")
    x = norm(x[1 : spec.positions**2 + 1], w, "decoder.ln_post")
    flat = {name: value.flatten(1) if value.ndim == 4 else value for name, value in w.items() if ".ffn." in name}
    logits = dense(torch.tanh(dense(x, flat, "decoder.ffn.0")), flat, "decoder.ffn.2")
    shares = logits.exp() / logits.exp().sum(1, keepdim=True)
    return (shares @ w["pixel_quantize.embedding.weight"]).T.view(-1, spec.positions, spec.positions)


def conv(x: Tensor, w: Weights, name: str) -> Tensor:
    weight = w[f"pixel_decoder.{name}.weight"]
    return F.conv2d(x, weight, w.get(f"pixel_decoder.{name}.bias"), padding=weight.shape[-1] // 2)


def swish_norm(x: Tensor, w: Weights, name: str) -> Tensor:
    """Return swish(norm(x)) with a group for each channel, as there are fewer than 32."""
    centred = x - x.mean((2, 3), keepdim=True)
    scaled = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-6).sqrt()
    y = scaled * w[f"pixel_decoder.{name}.weight"].view(1, -1, 1, 1)
    y = y + w[f"pixel_decoder.{name}.bias"].view(1, -1, 1, 1)
    return y / (1 + (-y).exp())


def block(x: Tensor, w: Weights, name: str) -> Tensor:
    h = conv(swish_norm(x, w, f"{name}.norm1"), w, f"{name}.conv1")
    h = conv(swish_norm(h, w, f"{name}.norm2"), w, f"{name}.conv2")
    return h + (conv(h, w, f"{name}.nin_shortcut") if f"pixel_decoder.{name}.nin_shortcut.weight" in w else x)


def decoded(codes: Tensor, w: Weights) -> Tensor:
    """Return pixels of mean codes (n, width, side, side), not clipped; three levels."""
    x = conv(codes, w, "conv_in")
    for name in ("mid.0", "mid.1", "up.2.block.0", "up.2.block.1", "up.2", "up.1.block.0", "up.1.block.1", "up.1",
                 "up.0.block.0", "up.0.block.1"):  # fmt: skip
        if "block" in name or "mid" in name:
            x = block(x, w, name)
        else:
            x = conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), w, f"{name}.upsample_conv")
    return conv(swish_norm(x, w, "norm_out"), w, "conv_out")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_tokens_are_those_of_the_formulas_in_the_releases_order(images: Tensor) -> None:
    spec = small()
    tokenizer = random_tokenizer(spec, SHAPE)
    expected = torch.stack([reference(image, tokenizer.state_dict(), spec) for image in images])
    tokens = tokenizer.encode(images)
    assert tokens.shape == (6, 2, 3)
    assert torch.equal(tokens.flatten(1), expected)
    assert len(expected.unique()) >= 3


def test_images_are_those_of_the_formulas_clipped() -> None:
    spec = small()
    tokenizer = random_tokenizer(spec, SHAPE)
    w = tokenizer.state_dict()
    tokens = torch.randint(0, 9, (4, 2, 3), generator=torch.Generator().manual_seed(2))
    expected = decoded(torch.stack([mean_codes(row, w, spec) for row in tokens.flatten(1)]), w)
    images = tokenizer.decode(tokens)
    assert images.shape == (4, *SHAPE)
    assert torch.allclose(images, expected.clamp(0, 1), atol=1e-4)
    inside = images[(images > 0) & (images < 1)]
    assert len(inside) > 100
    assert not torch.allclose(images[0], images[1], atol=1e-2)


def test_the_decoders_have_the_names_of_the_release() -> None:
    names = set(build(small(), SHAPE).state_dict())
    own = {name for name in names if name.startswith("decoder.") and ".transformer." not in name}
    assert own == {
        "decoder.class_embedding", "decoder.positional_embedding", "decoder.mask_token",
        "decoder.latent_token_positional_embedding", "decoder.decoder_embed.weight", "decoder.decoder_embed.bias",
        "decoder.ln_pre.weight", "decoder.ln_pre.bias", "decoder.ln_post.weight", "decoder.ln_post.bias",
        "decoder.ffn.0.weight", "decoder.ffn.0.bias", "decoder.ffn.2.weight", "decoder.ffn.2.bias",
    }  # fmt: skip
    blocks = ["mid.0", "mid.1", *(f"up.{level}.block.{number}" for level in range(3) for number in range(2))]
    norms = [f"{name}.{part}.{end}" for name in blocks for part in ("norm1", "norm2") for end in ("weight", "bias")]
    convs = [f"{name}.{part}.weight" for name in blocks for part in ("conv1", "conv2")]
    biased = ["conv_in", "conv_out", "norm_out", "up.1.upsample_conv", "up.2.upsample_conv"]
    whole = [*norms, *convs, *(f"{name}.{end}" for name in biased for end in ("weight", "bias"))]
    assert {name.removeprefix("pixel_decoder.") for name in names if name.startswith("pixel_decoder.")} == {
        *whole, "up.0.block.0.nin_shortcut.weight",
    }  # fmt: skip


def test_attention_has_torchs_names() -> None:
    own = {name for name in build(small(), SHAPE).state_dict() if name.startswith("encoder.transformer.0.attn.")}
    torchs = torch.nn.MultiheadAttention(12, 3).state_dict()
    assert own == {f"encoder.transformer.0.attn.{name}" for name in torchs}


@pytest.mark.parametrize(
    ("size", "grid", "parameters"), [("l32", (4, 8), 304e6), ("b64", (8, 8), 86e6), ("s128", (8, 16), 26e6)]
)
def test_the_releases_have_their_tokens_and_sizes(size: Any, grid: tuple[int, int], parameters: float) -> None:
    with torch.device("meta"):
        tokenizer = build(Titok(kind="titok", size=size, checkpoint="x"), (3, 256, 256))
    assert tokenizer.info.grid == grid
    assert tuple(tokenizer.codebook().shape) == (4096, 12)
    # Those of a plain transformer of this size: 12 width^2 in each block, and the patches.
    assert sum(value.numel() for value in tokenizer.encoder.parameters()) == pytest.approx(parameters, rel=0.02)
    assert sum(value.numel() for value in tokenizer.decoder.parameters()) == pytest.approx(parameters, rel=0.05)
    assert tuple(tokenizer.decoder.ffn[2].weight.shape[:1]) == (1024,)
    assert tokenizer.pixel_decoder.conv_in.weight.shape == (512, 256, 3, 3)
    assert tokenizer.pixel_decoder.up[0].block[1].conv1.weight.shape == (128, 128, 3, 3)


def test_a_released_file_is_read_with_its_decoders_or_without_them(images: Tensor, tmp_path: Path) -> None:
    made = random_tokenizer(small(), SHAPE)
    torch.save(made.state_dict(), tmp_path / "titok.bin")
    for decoder in (True, False):
        loaded = build(small(checkpoint=str(tmp_path / "titok.bin"), decoder=decoder), SHAPE)
        loaded.fit([])
        assert torch.equal(loaded.encode(images), made.encode(images))
        assert loaded.info.decodes == decoder
        assert any(name.startswith("pixel_decoder.") for name in loaded.state_dict()) == decoder


def test_a_file_of_the_first_training_stage_is_refused_unless_it_only_encodes(images: Tensor, tmp_path: Path) -> None:
    made = random_tokenizer(small(), SHAPE)
    first = {name: value for name, value in made.state_dict().items() if not name.startswith("pixel_")}
    torch.save(first, tmp_path / "titok.bin")
    with pytest.raises(DataError, match=r"holds no pixel_quantize\.\*.*set tokenizer\.decoder to false"):
        build(small(checkpoint=str(tmp_path / "titok.bin")), SHAPE).fit([])
    encodes = build(small(checkpoint=str(tmp_path / "titok.bin"), decoder=False), SHAPE)
    encodes.fit([])
    assert torch.equal(encodes.encode(images), made.encode(images))
    with pytest.raises(InputError, match="titok has no decoder"):
        encodes.decode(torch.zeros(1, 2, 3, dtype=torch.int64))


def test_another_side_and_levels_that_do_not_make_a_patch_are_refused() -> None:
    with pytest.raises(InputError, match="reads 12 x 12 pixels"):
        build(small(), (3, 16, 16))
    with pytest.raises(ValueError, match="makes 2 x 2 pixels of a place"):
        small(pixel_multipliers=(1, 2))
