"""feature_kmeans and kclip: features of timm's networks by hooks, codes, samples, weights from a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tokexp.errors import DataError, InputError
from tokexp.spec.tokenizers import FeatureKMeans, KClip
from tokexp.tokenizers import feature_sample, kclip
from tokexp.tokenizers.feature_kmeans import FeatureKMeansTokenizer, build, timm
from tokexp.tokenizers.feature_sample import Sample

SHAPE = (3, 32, 32)


def resnet(**fields: Any) -> FeatureKMeans:
    plain = {"backbone": "resnet18", "layer": 2, "width": 128, "stride": 8, "random": True, "sample": 1.0}
    codes = {"codebook_size": 6, "iterations": 5, "restarts": 2}
    return FeatureKMeans(**{"kind": "feature_kmeans", **plain, **codes, **fields})


def made(spec: FeatureKMeans, shape: tuple[int, int, int] = SHAPE) -> FeatureKMeansTokenizer:
    torch.manual_seed(0)
    return build(spec, shape)


@pytest.fixture(scope="module")
def images() -> Tensor:
    colours = torch.rand(10, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    return colours.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)


def hooked(model: Any, part: str, images: Tensor) -> Tensor:
    """Return what a named part of a timm model gives out for images normalised by its own statistics."""
    found: list[Tensor] = []
    handle = model.get_submodule(part).register_forward_hook(lambda module, given, out: found.append(out))
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        model.eval().forward_features((images - mean) / std)
    handle.remove()
    return found[0]


def test_tokens_are_the_nearest_codes_of_the_layers_features(images: Tensor, tmp_path: Path) -> None:
    model = timm.create_model("resnet18")
    torch.save(model.state_dict(), tmp_path / "resnet.pth")
    tokenizer = made(resnet(random=False, checkpoint=str(tmp_path / "resnet.pth"), outside_data="ImageNet-1k"))
    measures = tokenizer.fit([images])
    features = hooked(model, "layer2", images)
    assert torch.allclose(tokenizer.features(images), features, atol=1e-5)
    rows = features.permute(0, 2, 3, 1).reshape(-1, 128)
    distance = torch.cdist(rows.double(), tokenizer.codebook().double())
    tokens = tokenizer.encode(images)
    assert torch.equal(tokens, distance.argmin(1).view(10, 4, 4))
    assert len(tokens.unique()) == measures["codes_used"] == 6
    assert measures["fit_mse"] == pytest.approx(float(distance.min(1).values.square().mean()) / 128, rel=1e-2)
    assert tokenizer.info.outside_data == "ImageNet-1k"


def test_a_transformers_layer_gives_its_patches_without_the_class_token(images: Tensor) -> None:
    spec = resnet(backbone="vit_tiny_patch16_224", layer=3, norm=False, width=192, stride=16)
    tokenizer = made(spec)
    tokens = hooked(tokenizer.backbone, "blocks.3", images)[:, 1:]
    assert torch.allclose(tokenizer.features(images), tokens.transpose(1, 2).unflatten(2, (2, 2)), atol=1e-5)


def test_the_sample_is_the_same_however_images_are_batched(images: Tensor) -> None:
    for fields in ({"sample": 0.3}, {"per_code": 4}):
        tokenizer = made(resnet(**fields))
        tokenizer.eval()
        with torch.no_grad():
            one, many = tokenizer._sample([images]), tokenizer._sample(images.split(3))
        assert np.array_equal(np.sort(one.keys), np.sort(many.keys))
        assert torch.allclose(one.rows[one.keys.argsort()], many.rows[many.keys.argsort()], atol=1e-2)
        assert len(one.rows) == 24 if "per_code" in fields else 20 < len(one.rows) < 80
        assert one.rows.dtype == torch.float16


def test_a_sample_keeps_the_smallest_keys_however_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_sample, "_FIRST", 4)
    keys = np.random.default_rng(0).permutation(100).astype(np.uint64)
    rows = torch.from_numpy(keys.astype(np.float32))[:, None].expand(100, 2)
    for size in (1, 7, 100):
        found = Sample(30, 2)
        for start in range(0, 100, size):
            found.add(keys[start : start + size], rows[start : start + size])
        assert sorted(found.keys.tolist()) == list(range(30))
        assert found.rows[:, 1].tolist() == found.keys.tolist()


def test_spherical_codes_are_compared_by_angle(images: Tensor) -> None:
    tokenizer = made(resnet(spherical=True))
    tokenizer.fit([images])
    rows = tokenizer.features(images)
    assert torch.allclose(rows.norm(dim=1), torch.ones(10, 4, 4), atol=1e-5)
    codes = tokenizer.codebook() / tokenizer.codebook().norm(dim=1, keepdim=True)
    assert torch.equal(tokenizer.encode(images), torch.einsum("ndhw,kd->nkhw", rows, codes).argmax(1))
    assert tokenizer.info.metric == "cosine"


def test_mini_batches_fit_too(images: Tensor) -> None:
    tokenizer = made(resnet(method="mini_batch", batch=64, iterations=20))
    assert tokenizer.fit([images])["codes_used"] >= 5


def test_the_last_map_of_clips_network_is_kclips_and_has_the_published_shape() -> None:
    spec = KClip(kind="kclip", checkpoint="clip.safetensors")
    assert spec.grid((3, 224, 224)) == (14, 14)
    assert (spec.codebook_size, spec.restarts, spec.iterations, spec.sample) == (8192, 5, 20, 0.02)
    with torch.device("meta"):
        tokenizer = kclip.build(spec, (3, 224, 224))
        assert tokenizer.features(torch.empty(1, 3, 448, 448)).shape == (1, 4096, 14, 14)
    assert sum(value.numel() for value in tokenizer.backbone.parameters()) == pytest.approx(362e6, rel=0.01)
    assert tokenizer.info.outside_data == "CLIP"


def test_what_cannot_be_is_refused(images: Tensor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"timm has no model 'resnett'"):
        made(resnet(backbone="resnett"))
    with pytest.raises(InputError, match=r"give checkpoint .* or random"):
        made(resnet(random=False))
    with pytest.raises(InputError, match="gives features of width 128 on a grid of 4 x 4; width and stride say 64"):
        made(resnet(width=64)).fit([images])
    with pytest.raises(InputError, match="no feature was sampled"):
        made(resnet()).fit([])
    torch.save(timm.create_model("resnet26").state_dict(), tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"kind feature_kmeans, resnet18.*should not, layer1\.0\.conv3"):
        made(resnet(random=False, checkpoint=str(tmp_path / "other.pth"))).fit([images])


def test_a_checkpoint_that_timm_cannot_convert_is_named(tmp_path: Path) -> None:
    options = {"backbone": "vit_tiny_patch16_224", "width": 192, "stride": 16, "layer": 0, "random": False}
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32)
    torch.save(network.state_dict() | {"pos_embed": torch.zeros(7)}, tmp_path / "cut.pth")
    tokenizer = made(resnet(**options, checkpoint=str(tmp_path / "cut.pth")))
    with pytest.raises(DataError, match=r"cut\.pth.*timm cannot bring its 150 tensors \(cls_token, pos_embed"):
        tokenizer.load()
