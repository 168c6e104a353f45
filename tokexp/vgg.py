"""The features of a frozen VGG (Simonyan and Zisserman 2015), by which pictures are compared.

Its weights come from a file of the user's: they were trained on ImageNet's labels, so outside data enters with them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from tokexp.errors import DataError
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from torchvision.models import vgg16, vgg19  # noqa: E402 (its operators come first)

_NETWORKS = {"vgg16": vgg16, "vgg19": vgg19}


class VggFeatures(nn.Module):
    """Features (B, C, h, w) of pictures (B, 3, H, W) after some layers of torchvision's `features`."""

    def __init__(self, file: str, network: Literal["vgg16", "vgg19"], layers: tuple[int, ...]) -> None:
        """Take the file of weights as torchvision names them. Raises DataError if it is not this network's."""
        super().__init__()
        self.layers = layers
        with torch.device("meta"):
            whole = _NETWORKS[network](weights=None, init_weights=False)
        wrong = f"{file}: these are not weights of torchvision's {network}"
        try:
            state = torch.load(Path(file).expanduser(), map_location="cpu", weights_only=True)
        except OSError as error:
            raise DataError(f"{wrong}: {error.strerror or error}") from error
        except Exception as error:  # For what is no file of tensors torch raises nearly anything.
            raise DataError(f"{wrong}: it is no torch file of tensors; fetch it again") from error
        try:
            whole.load_state_dict(state, assign=True)
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise DataError(f"{wrong}: {error}") from error
        self.features = whole.features[: max(layers) + 1].eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "VggFeatures":
        """Stay in eval mode."""
        del mode
        return self

    def seen(self, pictures: Tensor) -> Iterator[Tensor]:
        """Yield the features of each layer in turn."""
        for number, layer in enumerate(self.features):
            pictures = layer(pictures)
            if number in self.layers:
                # The next layer works in place.
                yield pictures.clone()
