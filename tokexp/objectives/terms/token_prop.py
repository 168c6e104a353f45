"""TokenProp: loss + weight * distance(decoder(stem(x)), x), in training alone (Qian et al. 2022, eq. 7).

x is what the stem reads: the picture after mixing and normalisation, resized to the decoder's side; or embeddings of
tokens. The decoder reads what the stem gives, before positions and the class token, so that this loss trains the stem
and the decoder and leaves the transformer's gradient as it was.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, l1_loss, mse_loss

from tokexp.data.base import Batch
from tokexp.models.base import Backbone
from tokexp.objectives.terms.base import Term
from tokexp.objectives.terms.pixel_decoder import PixelDecoder
from tokexp.objectives.terms.vgg_distance import VggDistance
from tokexp.spec.token_prop import TokenProp


class TokenPropagation(Term):
    """The decoder, and its loss over all the times that the objective used the stem (their mean)."""

    def __init__(self, spec: TokenProp, backbone: Backbone) -> None:
        """Take the loss and the decoder's shape, and whose stem is watched."""
        super().__init__()
        self.spec = spec
        self.decoder = PixelDecoder(spec, backbone.stem_width, backbone.patch_grid, backbone.in_channels)
        self.vgg = None if spec.vgg is None else VggDistance(spec.vgg, spec.distance)
        self._seen: list[tuple[Tensor, Tensor]] | None = None
        backbone.stem.register_forward_hook(self._see)

    def _see(self, stem: nn.Module, given: tuple[Tensor, ...], patches: Tensor) -> None:
        del stem
        if self._seen is not None:
            self._seen.append((given[0], patches))

    def begin(self) -> None:
        """Watch the stem."""
        self._seen = []

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the mean over images of the distance between them and their reconstructions."""
        del batch, generator
        seen, self._seen = self._seen, None
        if not seen:
            raise ValueError("token_prop saw no patches: the objective did not use the backbone's stem")
        losses = [self.distance(self.decoder(patches), self.target(values)) for values, patches in seen]
        return torch.stack(losses).mean()

    def target(self, values: Tensor) -> Tensor:
        """Return values (B, C, H, W) as the decoder shall give them, (B, C, size, size) in float32."""
        side = (self.spec.size, self.spec.size)
        values = values.detach().float()
        if values.shape[2:] == side:
            return values
        return interpolate(values, side, mode="bilinear", align_corners=False, antialias=True)

    def distance(self, found: Tensor, target: Tensor) -> Tensor:
        """Return the distance of pictures (B, C, S, S), in float32 whatever the decoder's precision."""
        with torch.autocast(target.device.type, enabled=False):
            if self.vgg is not None:
                distant: Tensor = self.vgg(found.float(), target)
                return distant
            measure = l1_loss if self.spec.distance == "l1" else mse_loss
            mean = measure(found.float(), target)
            return mean * target[0].numel() if self.spec.reduction == "sum" else mean


def build(spec: TokenProp, backbone: Backbone) -> TokenPropagation:
    """Return the term for a spec."""
    return TokenPropagation(spec, backbone)
