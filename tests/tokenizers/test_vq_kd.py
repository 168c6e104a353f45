"""vq_kd against the formulas on the published names, and its encoder against timm's BEiT; its size; what it drops."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tokenizers.published import random_tokenizer
from tokexp.errors import InputError
from tokexp.spec.tokenizers import VqKd
from tokexp.tokenizers.vq_kd import build
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.models.beit import Beit  # noqa: E402

SHAPE = (3, 12, 12)
Weights = dict[str, Tensor]


def small(**fields: Any) -> VqKd:
    sizes = {"width": 12, "depth": 2, "heads": 3, "mlp_width": 20, "patch_size": 4, "positions": 3}
    codes = {"codebook_size": 9, "code_dim": 5, "checkpoint": "absent.pth"}
    return VqKd(**{"kind": "vq_kd", **sizes, **codes, **fields})


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def dense(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def reference(image: Tensor, w: Weights, spec: VqKd) -> Tensor:
    """Return the indices of one image, patch by patch and head by head."""
    p, side, size = spec.patch_size, spec.positions, spec.width // spec.heads
    image = 2 * image - 1
    patches = [
        (w["encoder.patch_embed.proj.weight"] * image[:, r * p : r * p + p, c * p : c * p + p]).sum((1, 2, 3))
        for r in range(side) for c in range(side)
    ]  # fmt: skip
    x = torch.stack(patches) + w["encoder.patch_embed.proj.bias"]
    x = torch.cat([w["encoder.cls_token"][0], x]) + w["encoder.pos_embed"][0]
    for i in range(spec.depth):
        at = f"encoder.blocks.{i}"
        q, k, v = (norm(x, w, f"{at}.norm1") @ w[f"{at}.attn.qkv.weight"].T).chunk(3, dim=1)
        q, v = q + w[f"{at}.attn.q_bias"], v + w[f"{at}.attn.v_bias"]
        heads = []
        for head in range(spec.heads):
            part = slice(head * size, (head + 1) * size)
            heads.append(torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(size), 1) @ v[:, part])
        x = x + dense(torch.cat(heads, 1), w, f"{at}.attn.proj")
        hidden = dense(norm(x, w, f"{at}.norm2"), w, f"{at}.mlp.fc1")
        x = x + dense(hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2, w, f"{at}.mlp.fc2")
    x = norm(x[1:], w, "encoder.fc_norm")
    z = dense(torch.tanh(dense(x, w, "encode_task_layer.0")), w, "encode_task_layer.2")
    codes = w["quantize.embedding.weight"]
    similar = (z / z.norm(dim=1, keepdim=True)) @ (codes / codes.norm(dim=1, keepdim=True)).T
    return similar.argmax(1).view(side, side)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_tokens_are_those_of_the_formulas(images: Tensor) -> None:
    spec = small()
    tokenizer = random_tokenizer(spec, SHAPE)
    expected = torch.stack([reference(image, tokenizer.state_dict(), spec) for image in images])
    assert torch.equal(tokenizer.encode(images), expected)
    assert len(expected.unique()) >= 3


def test_the_encoder_is_timms_beit_with_its_last_norm_on_patches(images: Tensor) -> None:
    tokenizer = random_tokenizer(small(mlp_width=24), SHAPE)
    beit = Beit(
        img_size=12, patch_size=4, embed_dim=12, depth=2, num_heads=3, mlp_ratio=2.0, num_classes=0,
        use_abs_pos_emb=True, init_values=None, global_pool="avg",
    ).eval()  # fmt: skip
    beit.load_state_dict(tokenizer.encoder.state_dict())
    with torch.no_grad():
        expected = beit.fc_norm(beit.forward_features(images)[:, 1:])
        assert torch.allclose(tokenizer.encoder(images), expected, atol=1e-5)


def test_the_published_file_fits_after_what_is_dropped_and_its_count_of_codes_never_moves(
    images: Tensor, tmp_path: Path
) -> None:
    made = random_tokenizer(small(), SHAPE)
    extra = {
        "quantize.cluster_size": torch.zeros(9), "quantize.embedding.cluster_size": torch.zeros(9),
        "quantize.embedding.embed_avg": torch.zeros(9, 5), "quantize.embedding.initted": torch.ones(1),
        "decoder.blocks.0.norm1.weight": torch.ones(4), "decode_task_layer.0.weight": torch.ones(4, 4),
        "teacher_model.x": torch.ones(1), "scaling_layer.shift": torch.ones(1),
    }  # fmt: skip
    torch.save({"model": {**made.state_dict(), **extra}}, tmp_path / "a.pth")
    loaded = build(small(checkpoint=str(tmp_path / "a.pth")), SHAPE)
    loaded.fit([])
    assert set(loaded.state_dict()) == set(made.state_dict())
    assert torch.equal(loaded.encode(images), made.encode(images))


def test_the_published_size_has_its_names_grid_and_parameters() -> None:
    spec = VqKd(kind="vq_kd", checkpoint="x")
    with torch.device("meta"):
        tokenizer = build(spec, (3, 224, 224))
    assert tokenizer.info.grid == (14, 14)
    assert tuple(tokenizer.codebook().shape) == (8192, 32)
    # A ViT-B/16 without a head (85.8 M) less the biases of the keys and the last norm's place.
    count = sum(value.numel() for value in tokenizer.encoder.parameters())
    assert count == pytest.approx(85.8e6, rel=2e-3)
    names = {name.replace("blocks.11", "blocks.{i}") for name in tokenizer.state_dict() if "blocks.1." not in name}
    assert {
        "encoder.cls_token", "encoder.pos_embed", "encoder.patch_embed.proj.weight", "encoder.fc_norm.bias",
        "encoder.blocks.{i}.attn.q_bias", "encoder.blocks.{i}.attn.v_bias", "encoder.blocks.{i}.attn.qkv.weight",
        "encode_task_layer.0.weight", "encode_task_layer.2.bias", "quantize.embedding.weight",
    } <= names  # fmt: skip
    assert "encoder.blocks.{i}.attn.qkv.bias" not in names


def test_another_side_and_decoding_are_refused(images: Tensor) -> None:
    with pytest.raises(InputError, match="reads 12 x 12 pixels, and is given 16 x 16"):
        build(small(), (3, 16, 16))
    with pytest.raises(InputError, match="vq_kd has no decoder"):
        build(small(), SHAPE).decode(torch.zeros(1, 3, 3, dtype=torch.int64))
