"""vit_vqgan against the formulas, written out on the published names; the published sizes; what it refuses."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tokenizers.published import random_tokenizer
from tokexp.errors import DataError, InputError
from tokexp.spec.tokenizers import VitVqgan
from tokexp.tokenizers.vit_vqgan import VitVqganTokenizer, build

SHAPE = (3, 12, 12)
BLOCK = [
    "0.norm.weight", "0.norm.bias", "0.fn.to_qkv.weight", "0.fn.to_out.weight", "0.fn.to_out.bias",
    "1.norm.weight", "1.norm.bias", "1.fn.net.0.weight", "1.fn.net.0.bias", "1.fn.net.2.weight", "1.fn.net.2.bias",
]  # fmt: skip


def small(**fields: Any) -> VitVqgan:
    sizes = {"width": 12, "depth": 2, "heads": 3, "mlp_width": 20, "patch_size": 4, "positions": 3}
    codes = {"codebook_size": 9, "code_dim": 5, "checkpoint": "absent.ckpt"}
    return VitVqgan(**{"kind": "vit_vqgan", **sizes, **codes, **fields})


def published_keys(depth: int) -> set[str]:
    sides = [("encoder.en_pos_embedding", "encoder"), ("decoder.de_pos_embedding", "decoder")]
    keys = {"encoder.to_patch_embedding.0.weight", "encoder.to_patch_embedding.0.bias", "quantizer.embedding.weight"}
    keys |= {
        f"{name}.{part}" for name in ("decoder.to_pixel.1", "pre_quant", "post_quant") for part in ("weight", "bias")
    }
    for table, side in sides:
        keys |= {table, f"{side}.transformer.norm.weight", f"{side}.transformer.norm.bias"}
        keys |= {f"{side}.transformer.layers.{i}.{name}" for i in range(depth) for name in BLOCK}
    return keys


def norm(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def transformer(x: Tensor, w: dict[str, Tensor], name: str, depth: int, heads: int) -> Tensor:
    """Blocks on one image (tokens, width), head by head."""
    size = x.shape[1] // heads
    for i in range(depth):
        at = f"{name}.layers.{i}"
        q, k, v = (norm(x, w, f"{at}.0.norm") @ w[f"{at}.0.fn.to_qkv.weight"].T).chunk(3, dim=1)
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            mixed.append(torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(size), dim=1) @ v[:, part])
        x = x + torch.cat(mixed, 1) @ w[f"{at}.0.fn.to_out.weight"].T + w[f"{at}.0.fn.to_out.bias"]
        hidden = torch.tanh(norm(x, w, f"{at}.1.norm") @ w[f"{at}.1.fn.net.0.weight"].T + w[f"{at}.1.fn.net.0.bias"])
        x = x + hidden @ w[f"{at}.1.fn.net.2.weight"].T + w[f"{at}.1.fn.net.2.bias"]
    return norm(x, w, f"{name}.norm")


def reference(image: Tensor, w: dict[str, Tensor], spec: VitVqgan) -> tuple[Tensor, Tensor]:
    """Return the indices (rows, columns) of one image and its decoded pixels, patch by patch."""
    p, side = spec.patch_size, spec.positions
    patches = [
        (w["encoder.to_patch_embedding.0.weight"] * image[:, r * p : r * p + p, c * p : c * p + p]).sum((1, 2, 3))
        for r in range(side) for c in range(side)
    ]  # fmt: skip
    x = torch.stack(patches) + w["encoder.to_patch_embedding.0.bias"] + w["encoder.en_pos_embedding"][0]
    x = transformer(x, w, "encoder.transformer", spec.depth, spec.heads)
    z = x @ w["pre_quant.weight"].T + w["pre_quant.bias"]
    codes = w["quantizer.embedding.weight"]
    unit = codes / codes.norm(dim=1, keepdim=True)
    distance = torch.cdist(z / z.norm(dim=1, keepdim=True), unit)
    indices = distance.argmin(1)
    y = unit[indices] @ w["post_quant.weight"].T + w["post_quant.bias"] + w["decoder.de_pos_embedding"][0]
    y = transformer(y, w, "decoder.transformer", spec.depth, spec.heads)
    pixels = torch.zeros(3, side * p, side * p)
    for token in range(side**2):
        r, c = divmod(token, side)
        patch = (y[token].view(-1, 1, 1, 1) * w["decoder.to_pixel.1.weight"]).sum(0)
        pixels[:, r * p : r * p + p, c * p : c * p + p] = patch + w["decoder.to_pixel.1.bias"].view(3, 1, 1)
    return indices.view(side, side), pixels.clamp(0, 1)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_its_names_are_the_published_ones() -> None:
    assert set(build(small(), SHAPE).state_dict()) == published_keys(2)


def test_tokens_and_decoded_pixels_are_those_of_the_formulas(images: Tensor) -> None:
    spec = small()
    tokenizer = random_tokenizer(spec, SHAPE)
    expected = [reference(image, tokenizer.state_dict(), spec) for image in images]
    tokens = tokenizer.encode(images)
    assert torch.equal(tokens, torch.stack([indices for indices, _ in expected]))
    assert len(tokens.unique()) >= 3
    assert torch.allclose(tokenizer.decode(tokens), torch.stack([pixels for _, pixels in expected]), atol=1e-5)


def test_the_length_of_a_code_does_not_decide_but_is_kept(images: Tensor) -> None:
    tokenizer = random_tokenizer(small(), SHAPE)
    tokens, pixels = tokenizer.encode(images), tokenizer.decode(torch.zeros(1, 3, 3, dtype=torch.int64))
    tokenizer.quantizer.embedding.weight.data.mul_(torch.linspace(0.1, 7, 9)[:, None])
    assert torch.equal(tokenizer.encode(images), tokens)
    assert torch.allclose(tokenizer.decode(torch.zeros(1, 3, 3, dtype=torch.int64)), pixels, atol=1e-6)
    assert torch.equal(tokenizer.codebook(), tokenizer.quantizer.embedding.weight)


def test_images_of_another_size_are_brought_to_the_one_it_reads(images: Tensor) -> None:
    tokenizer = random_tokenizer(small(input_size=12), (3, 24, 24))
    large = torch.nn.functional.interpolate(images, (24, 24), mode="bicubic", antialias=True).clamp(0, 1)
    small_again = torch.nn.functional.interpolate(large, (12, 12), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(tokenizer.encode(large), random_tokenizer(small(), SHAPE).encode(small_again))
    assert tokenizer.decode(tokenizer.encode(large)).shape == large.shape
    assert tokenizer.info.pixels_per_token == 64


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 12, 12), (3, 12, 8)])
def test_images_that_do_not_fit_are_refused_with_the_way_out(shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match=r"reads 12 x 12 pixels.*input_size to 12|reads 3 channels"):
        build(small(), shape)


@pytest.mark.parametrize(("size", "encoder", "decoder"), [("base", 86e6, 86e6), ("small", 26e6, 26e6)])
def test_the_published_sizes_have_their_parameters(size: Any, encoder: float, decoder: float) -> None:
    with torch.device("meta"):
        tokenizer = build(VitVqgan(kind="vit_vqgan", size=size, checkpoint="x"), (3, 256, 256))
    for part, expected in ((tokenizer.encoder, encoder), (tokenizer.decoder, decoder)):
        count = sum(value.numel() for value in part.parameters())
        assert count == pytest.approx(expected, rel=0.02)
    assert tokenizer.info.grid == (32, 32)
    assert tokenizer.codebook().shape == (8192, 32)


def test_a_lightning_file_with_the_parts_of_training_is_loaded(images: Tensor, tmp_path: Path) -> None:
    made = random_tokenizer(small(), SHAPE)
    state = {**made.state_dict(), "loss.discriminator.0.weight": torch.zeros(3)}
    torch.save({"state_dict": state, "epoch": 4, "optimizer_states": [{}]}, tmp_path / "a.ckpt")
    loaded = build(small(checkpoint=str(tmp_path / "a.ckpt")), SHAPE)
    assert loaded.fit([])["code_norm"] == pytest.approx(float(made.codebook().norm(dim=1).mean()))
    assert torch.equal(loaded.eval().encode(images), made.encode(images))


def test_weights_of_another_size_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(random_tokenizer(small(depth=3), SHAPE).state_dict(), tmp_path / "a.ckpt")
    with pytest.raises(DataError, match=r"no checkpoint of the kind vit_vqgan.*should not, .*layers\.2\.0\.norm"):
        build(small(checkpoint=str(tmp_path / "a.ckpt")), SHAPE).fit([])


def test_the_operations_of_a_plan_are_those_of_the_blocks_products() -> None:
    spec = small()
    shapes = [name for name in build(spec, SHAPE).state_dict() if name.startswith("encoder.transformer.layers.0.")]
    state = build(small(mlp_width=48), SHAPE).state_dict()
    weights = sum(state[name].numel() for name in shapes if state[name].ndim == 2)
    # Two operations for each weight, token and block; the estimate takes the MLP as four times as wide.
    assert spec.operations(SHAPE) == 2 * weights * 9 * spec.depth


def test_a_missing_file_is_named() -> None:
    tokenizer: VitVqganTokenizer = build(small(), SHAPE)
    with pytest.raises(DataError, match=r"absent\.ckpt"):
        tokenizer.fit([])
