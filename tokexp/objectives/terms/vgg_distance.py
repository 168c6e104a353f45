"""Distances between pictures by VGG-19's features, for TokenProp's ablation (Qian et al. 2022, table 7).

Perceptual: mean squared difference of features (Johnson et al. 2016). Contextual: each feature of the target looks for
its likeliest counterpart anywhere in the picture (Mechrez et al. 2018). The paper names no layers; those are taken that
its sources take. VGG-19's weights come from a file: they were trained on ImageNet's labels, so outside data enters.
"""

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

from tokexp.vgg import VggFeatures

LAYERS = {"perceptual": (3, 8, 17, 26), "contextual": (13, 22)}
"""Layers of torchvision's vgg19().features: relu1_2, 2_2, 3_4, 4_4; and relu3_2, 4_2."""

BANDWIDTH, FLOOR = 0.5, 1e-5
"""Of the contextual loss: h and epsilon of its equations 2 and 3."""


class VggDistance(VggFeatures):
    """A frozen network that compares pictures (B, 3, S, S) as the model reads them; S from 16."""

    def __init__(self, file: str, distance: str) -> None:
        """Take the file of weights, and "perceptual" or "contextual". Raises DataError if the file is not VGG-19's."""
        super().__init__(file, "vgg19", LAYERS[distance])
        self.distance = distance

    def forward(self, found: Tensor, target: Tensor) -> Tensor:
        """Return the distance, a scalar; the gradient goes to `found` alone."""
        compare = mse_loss if self.distance == "perceptual" else contextual
        pairs = zip(self.seen(found), self.seen(target), strict=True)
        return torch.stack([compare(one, other) for one, other in pairs]).mean()


def contextual(found: Tensor, target: Tensor) -> Tensor:
    """Return the mean over images of -log CX(found, target), features (B, C, H, W)."""
    centre = target.mean((2, 3), keepdim=True)
    one, other = (normalize((features - centre).flatten(2), dim=1) for features in (found, target))
    distances = 1 - one.mT @ other
    relative = distances / (distances.amin(2, keepdim=True) + FLOOR)
    similarity = ((1 - relative) / BANDWIDTH).softmax(2)
    return -similarity.amax(1).mean(1).log().mean()
