"""vq_kd against the formulas on the published names, and its encoder against timm's BEiT; its sizes; what it drops."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tokenizers.formulas import Weights, attended, dense, gelu, nearest_angle, norm, patches
from tests.tokenizers.published import random_tokenizer
from tokexp.errors import InputError
from tokexp.spec.tokenizers import VqKd
from tokexp.tokenizers.vq_kd import build
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.models.beit import Beit  # noqa: E402

SHAPE = (3, 12, 12)
EPS = 1e-6


def small(**fields: Any) -> VqKd:
    sizes = {"width": 12, "depth": 2, "heads": 3, "mlp_width": 20, "patch_size": 4, "positions": 3}
    codes = {"codebook_size": 9, "code_dim": 5, "checkpoint": "absent.pth"}
    return VqKd(**{"kind": "vq_kd", **sizes, **codes, **fields})


def reference(image: Tensor, w: Weights, spec: VqKd) -> Tensor:
    """Return the indices of one image of the size that fits the table of positions."""
    x = patches(2 * image - 1, w, "encoder.patch_embed.proj")
    x = torch.cat([w["encoder.cls_token"][0], x]) + w["encoder.pos_embed"][0]
    for i in range(spec.depth):
        at = f"encoder.blocks.{i}"
        q, k, v = (norm(x, w, f"{at}.norm1", EPS) @ w[f"{at}.attn.qkv.weight"].T).chunk(3, dim=1)
        q, v = q + w[f"{at}.attn.q_bias"], v + w[f"{at}.attn.v_bias"]
        x = x + dense(attended(q, k, v, spec.heads), w, f"{at}.attn.proj")
        x = x + dense(gelu(dense(norm(x, w, f"{at}.norm2", EPS), w, f"{at}.mlp.fc1")), w, f"{at}.mlp.fc2")
    x = norm(x[1:], w, "encoder.fc_norm", EPS)
    z = dense(torch.tanh(dense(x, w, "encode_task_layer.0")), w, "encode_task_layer.2")
    return nearest_angle(z, w["quantize.embedding.weight"]).view(spec.positions, spec.positions)


def cubic(distance: float, a: float = -0.5) -> float:
    """Return Keys' kernel, with the constant of antialiased resizing."""
    d = abs(distance)
    if d < 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resampling(old: int, new: int) -> Tensor:
    """Return the matrix (new, old) of bicubic resampling, its kernel as wide as a pixel of the coarser side."""
    scale = max(old / new, 1.0)
    centres = [(place + 0.5) * old / new - 0.5 for place in range(new)]
    weights = torch.tensor([[cubic((place - centre) / scale) for place in range(old)] for centre in centres])
    return weights / weights.sum(1, keepdim=True)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_tokens_are_those_of_the_formulas(images: Tensor) -> None:
    spec = small()
    tokenizer = random_tokenizer(spec, SHAPE)
    expected = torch.stack([reference(image, tokenizer.state_dict(), spec) for image in images])
    assert torch.equal(tokenizer.encode(images), expected)
    assert len(expected.unique()) >= 3


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 8, 8), (3, 12, 20)])
def test_other_sizes_are_read_with_the_table_of_positions_resampled(shape: tuple[int, int, int]) -> None:
    tokenizer = random_tokenizer(small(), shape)
    stored = tokenizer.encoder.pos_embed
    rows, columns = shape[1] // 4, shape[2] // 4
    table = torch.einsum("ri,cj,ijw->rcw", resampling(3, rows), resampling(3, columns), stored[0, 1:].view(3, 3, 12))
    assert torch.allclose(tokenizer.encoder.positions()[0], torch.cat([stored[0, :1], table.flatten(0, 1)]), atol=1e-5)
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(2))
    tokens = tokenizer.encode(images)
    assert tokens.shape == (4, rows, columns)
    assert tokenizer.info.grid == (rows, columns)
    assert len(tokens.unique()) >= 3


def test_the_table_is_kept_as_published_whatever_is_read(tmp_path: Path) -> None:
    made = random_tokenizer(small(), SHAPE)
    torch.save(made.state_dict(), tmp_path / "a.pth")
    wide = build(small(checkpoint=str(tmp_path / "a.pth")), (3, 16, 16))
    wide.fit([])
    assert torch.equal(wide.state_dict()["encoder.pos_embed"], made.state_dict()["encoder.pos_embed"])


def test_the_published_sizes_are_14_and_16_tokens_a_side() -> None:
    spec = VqKd(kind="vq_kd", checkpoint="x")
    assert spec.grid((3, 224, 224)) == (14, 14)
    assert (spec.grid((3, 256, 256)), spec.fault((3, 256, 256))) == ((16, 16), "")


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


def test_sides_that_patches_do_not_divide_and_decoding_are_refused() -> None:
    with pytest.raises(InputError, match="4 pixels per token do not divide 14 x 14 pixels"):
        build(small(), (3, 14, 14))
    with pytest.raises(InputError, match="vq_kd has no decoder"):
        build(small(), SHAPE).decode(torch.zeros(1, 3, 3, dtype=torch.int64))
