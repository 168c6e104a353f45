"""titok against the formulas on the published names; the order in which its release reads features; its sizes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tokenizers.published import random_tokenizer
from tokexp.errors import InputError
from tokexp.spec.tokenizers import Titok
from tokexp.tokenizers.titok import build

SHAPE = (3, 12, 12)
Weights = dict[str, Tensor]


def small(**fields: Any) -> Titok:
    sizes = {"tokens": 6, "width": 12, "depth": 2, "heads": 3, "patch_size": 4, "positions": 3}
    return Titok(**{"kind": "titok", **sizes, "codebook_size": 9, "code_dim": 5, "checkpoint": "absent", **fields})


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def dense(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def features(image: Tensor, w: Weights, spec: Titok) -> Tensor:
    """Return the normed features (tokens, width) of one image's row."""
    p, side, size = spec.patch_size, spec.positions, spec.width // spec.heads
    patches = [
        (w["encoder.patch_embed.weight"] * image[:, r * p : r * p + p, c * p : c * p + p]).sum((1, 2, 3))
        for r in range(side) for c in range(side)
    ]  # fmt: skip
    x = torch.cat([w["encoder.class_embedding"], torch.stack(patches) + w["encoder.patch_embed.bias"]])
    row = w["latent_tokens"] + w["encoder.latent_token_positional_embedding"]
    x = norm(torch.cat([x + w["encoder.positional_embedding"], row]), w, "encoder.ln_pre")
    for i in range(spec.depth):
        at = f"encoder.transformer.{i}"
        joined = norm(x, w, f"{at}.ln_1") @ w[f"{at}.attn.in_proj_weight"].T + w[f"{at}.attn.in_proj_bias"]
        q, k, v = joined.chunk(3, dim=1)
        heads = []
        for head in range(spec.heads):
            part = slice(head * size, (head + 1) * size)
            heads.append(torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(size), 1) @ v[:, part])
        x = x + dense(torch.cat(heads, 1), w, f"{at}.attn.out_proj")
        hidden = dense(norm(x, w, f"{at}.ln_2"), w, f"{at}.mlp.c_fc")
        x = x + dense(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2, w, f"{at}.mlp.c_proj")
    return norm(x[side**2 + 1 :], w, "encoder.ln_post")


def reference(image: Tensor, w: Weights, spec: Titok) -> Tensor:
    """Return the indices of one image as a row, its numbers read in the release's order."""
    numbers = features(image, w, spec).flatten().tolist()
    read = torch.tensor([[numbers[c * spec.tokens + t] for c in range(spec.width)] for t in range(spec.tokens)])
    z = read @ w["encoder.conv_out.weight"][:, :, 0, 0].T + w["encoder.conv_out.bias"]
    codes = w["quantize.embedding.weight"]
    similar = (z / z.norm(dim=1, keepdim=True)) @ (codes / codes.norm(dim=1, keepdim=True)).T
    return similar.argmax(1)


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


def test_a_released_file_fits_without_its_decoders(images: Tensor, tmp_path: Path) -> None:
    made = random_tokenizer(small(), SHAPE)
    parts = ("decoder.mask_token", "pixel_quantize.embedding.weight", "pixel_decoder.conv_in.weight")
    torch.save({**made.state_dict(), **{name: torch.zeros(2) for name in parts}}, tmp_path / "titok.bin")
    loaded = build(small(checkpoint=str(tmp_path / "titok.bin")), SHAPE)
    loaded.fit([])
    assert torch.equal(loaded.encode(images), made.encode(images))


def test_another_side_and_decoding_are_refused() -> None:
    with pytest.raises(InputError, match="reads 12 x 12 pixels"):
        build(small(), (3, 16, 16))
    with pytest.raises(InputError, match="titok has no decoder"):
        build(small(), SHAPE).decode(torch.zeros(1, 2, 3, dtype=torch.int64))
