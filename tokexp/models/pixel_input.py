"""What a model of pixels reads: images in [0, 1], brought to about zero mean and unit deviation.

Sources: ImageNet's channel statistics as torchvision's models use them; (x - 0.5) / 0.5 as the original ViT does.
"""

import torch
from torch import Tensor, nn

STATISTICS = {
    "half": ((0.5,), (0.5,)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "none": ((0.0,), (1.0,)),
}
"""Mean and deviation by name, one value for all channels or one for each."""


class PixelInput(nn.Module):
    """Pixels (B, C, H, W) to (pixels - mean) / std. Nothing is trained, and nothing is saved."""

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        """Take a name of STATISTICS."""
        super().__init__()
        for part, values in zip(("mean", "std"), STATISTICS[name], strict=True):
            self.register_buffer(part, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return normalised pixels of the same shape."""
        return (values - self.mean) / self.std
