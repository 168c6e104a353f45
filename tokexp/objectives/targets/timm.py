"""A frozen vision transformer of timm (Wightman), such as CLIP's image tower (Radford et al. 2021) with its projection.

CLIP's tokens go through the final norm and then, each, through the visual projection, which is the last linear layer of
timm's tower: (B, 196, 512) at 224 pixels. The class token is left out (Kim et al. 2024, DTM, section 4.1).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tokexp.errors import InputError
from tokexp.objectives.targets.base import Target
from tokexp.spec.teachers import TimmTarget
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
import timm  # noqa: E402 (timm imports torchvision)
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn  # noqa: E402


class TimmTower(Target):
    """Pixels (B, C, H, W) in [0, 1], normalised here, to tokens.

    It is built for images of the student's size; positions of weights for another size are resampled by timm.
    """

    def __init__(self, spec: TimmTarget, pixels: tuple[int, int, int], shared_norm: nn.Module) -> None:
        """Take (C, H, W) of the images and the student's normalisation. Raises InputError for what cannot be built."""
        super().__init__()
        self.model = _built(spec, pixels)
        self.patch_grid = tuple(self.model.patch_embed.grid_size)
        self.prefix = self.model.num_prefix_tokens
        self.project: nn.Module = self.model.head if spec.project else nn.Identity()
        self.width = getattr(self.project, "out_features", self.model.embed_dim)
        self.normalise = shared_norm if spec.norm == "shared" else _OwnNorm(self.model.pretrained_cfg, pixels[0])
        if spec.weights is not None:
            load_tower(self.model, spec.weights)
        self.requires_grad_(False).eval()

    def start(self, values: Tensor) -> Tensor:
        """Return patches with positions, class token and, where the model has it, its first norm."""
        tokens = self.model._pos_embed(self.model.patch_embed(self.normalise(values)))
        started: Tensor = self.model.norm_pre(tokens)
        return started

    def blocks(self) -> Iterable[nn.Module]:
        """Return the model's blocks."""
        found: nn.Sequential = self.model.blocks
        return found

    def finish(self, tokens: Tensor) -> Tensor:
        """Return tokens after the final norm and the projection."""
        finished: Tensor = self.project(self.model.norm(tokens))
        return finished


class _OwnNorm(nn.Module):
    """The mean and deviation that a model was trained with, of the images' channels."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: Mapping[str, Any], channels: int) -> None:
        super().__init__()
        for name in ("mean", "std"):
            values = torch.tensor(config.get(name) or (0.5,) * 3)
            values = values if channels == len(values) else values.mean().expand(channels)
            self.register_buffer(name, values.clone().view(1, -1, 1, 1), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        normed: Tensor = (values - self.mean) / self.std
        return normed


def _built(spec: TimmTarget, pixels: tuple[int, int, int]) -> VisionTransformer:
    options = {} if spec.patch_size is None else {"patch_size": spec.patch_size}
    try:
        model = timm.create_model(spec.model, in_chans=pixels[0], img_size=pixels[1:], **options)
    except (RuntimeError, TypeError, AssertionError, ValueError) as error:
        raise InputError(f"target.model: timm cannot build {spec.model!r} for these images: {error}") from error
    if not isinstance(model, VisionTransformer):
        raise InputError(f"target.model: {spec.model!r} is no plain vision transformer; its patches are not a sequence")
    return model


def load_tower(model: VisionTransformer, file: str) -> None:
    """Load weights that must fit name by name. Raises InputError with what is wrong."""
    path = Path(file).expanduser()
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        model.load_state_dict(checkpoint_filter_fn(state, model))
    except (OSError, RuntimeError, KeyError, ValueError, EOFError) as error:
        raise InputError(f"target.weights: {file}: these are not weights of target.model ({error})") from error


def build(spec: TimmTarget, pixels: tuple[int, int, int], shared_norm: nn.Module) -> TimmTower:
    """Return the tower of a spec for images (C, H, W); it is random where the spec says so."""
    return TimmTower(spec, pixels, shared_norm)
