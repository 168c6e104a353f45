"""Targets: frozen towers of timm, trained encoders, moving averages."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from tests.objectives.building import vit_spec
from tokexp.errors import InputError
from tokexp.models.pixel_input import STATISTICS, PixelInput
from tokexp.models.vit import build as build_vit
from tokexp.objectives.targets.momentum import MomentumEncoder
from tokexp.objectives.targets.teacher import EncoderTarget
from tokexp.registry import implementation
from tokexp.spec.teachers import CLIP_TOWER, TimmTarget

TINY: dict[str, Any] = {"kind": "timm", "model": "vit_tiny_patch16_224", "random": True, "patch_size": 4}


def tower(pixels: tuple[int, int, int] = (3, 8, 12), shared: nn.Module | None = None, **fields: Any) -> Any:
    torch.manual_seed(0)
    spec = TimmTarget.model_validate({**TINY, **fields})
    return implementation("targets", "timm")(spec, pixels, shared or PixelInput("half"))


def images(channels: int = 3) -> torch.Tensor:
    return torch.rand(2, channels, 8, 12, generator=torch.Generator().manual_seed(1))


def test_a_towers_tokens_are_timms_features_through_the_last_layer() -> None:
    found, pixels = tower(), images()
    assert found.patch_grid == (2, 3)
    mean, std = (torch.tensor(found.model.pretrained_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    features = found.model.forward_features((pixels - mean) / std)[:, 1:]
    torch.testing.assert_close(found(pixels), features @ found.model.head.weight.T + found.model.head.bias)
    assert found(pixels).shape == (2, 6, found.width) == (2, 6, 1000)
    plain = tower(project=False)
    torch.testing.assert_close(plain(pixels), features)
    assert plain.width == 192


@pytest.mark.parametrize("name", ["own", "shared"])
def test_the_norm_changes_the_targets_input_alone(name: str) -> None:
    found = tower(shared=PixelInput("none"), norm=name)
    expected = 0.0 if name == "shared" else -1.0
    assert found.normalise(torch.zeros(1, 3, 2, 2)).mean().item() == pytest.approx(expected)
    assert STATISTICS["none"] == ((0.0,), (1.0,))


def test_grey_images_have_the_mean_of_the_colours_statistics() -> None:
    assert tower((1, 8, 12))(images(1)).shape == (2, 6, 1000)


def test_clips_tower_is_quick_gelu_with_a_first_norm_and_a_projection_to_512() -> None:
    with torch.device("meta"):
        import timm

        model = timm.create_model(CLIP_TOWER)
    assert (model.num_classes, model.num_prefix_tokens, model.patch_embed.grid_size) == (512, 1, (14, 14))
    assert type(model.blocks[0].mlp.act).__name__ == "QuickGELU"
    assert isinstance(model.norm_pre, nn.LayerNorm)
    assert model.pretrained_cfg["mean"] == pytest.approx((0.48145466, 0.4578275, 0.40821073))


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_come_from_a_file(ending: str, tmp_path: Path) -> None:
    given, file = tower(), tmp_path / f"tower.{ending}"
    state = {name: value + 0.1 for name, value in given.model.state_dict().items()}
    save_file(state, file) if ending == "safetensors" else torch.save(state, file)
    loaded = tower(random=False, weights=str(file))
    torch.testing.assert_close(loaded.model.state_dict(), state)
    assert not torch.equal(loaded(images()), given(images()))


def test_what_is_no_weights_and_no_vision_transformer_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    for file in (str(other), str(tmp_path / "absent.safetensors")):
        with pytest.raises(InputError, match="not weights of target"):
            tower(random=False, weights=file)
    with pytest.raises(InputError, match=r"target\.model: 'resnet18' is no plain|cannot build 'resnet18'"):
        tower(model="resnet18", patch_size=None)
    with pytest.raises(InputError, match="cannot build 'no_such_model'"):
        tower(model="no_such_model")


def test_weights_or_random_must_be_said() -> None:
    for fields in ({"random": False}, {"weights": "file"}):
        with pytest.raises(ValidationError, match="give weights"):
            TimmTarget.model_validate({**TINY, **fields})


def test_an_encoders_tokens_are_its_patches_after_the_norm_whatever_way_they_go() -> None:
    vit = build_vit(vit_spec(), 3, (8, 12), drop_path=0.5)
    target, pixels = EncoderTarget(vit, PixelInput("half")), images()
    tokens = target.start(pixels)
    for block in target.blocks():
        tokens = block(tokens)
    torch.testing.assert_close(target.finish(tokens[:, 1:]), target(pixels))
    target.train()
    assert torch.equal(target(pixels), target(pixels))
    assert not any(parameter.requires_grad for parameter in target.parameters())


def test_a_moving_average_is_a_copy_that_moves() -> None:
    vit, plain = build_vit(vit_spec(), 3, (8, 12)), PixelInput("half")
    target = MomentumEncoder(vit, plain, 0.9)
    before = target.backbone.class_token.clone()
    with torch.no_grad():
        vit.class_token.add_(1.0)
    assert torch.equal(target.backbone.class_token, before)
    target.follow(vit, plain)
    torch.testing.assert_close(target.backbone.class_token, before + 0.1)
    assert vit.class_token.requires_grad
