"""MAE's decoder (He et al. 2022, section 3): encoded visible patches in, features of all patches out.

A linear layer to its width, one learned vector at masked places, fixed sine-cosine positions, transformer blocks, norm.
"""

from functools import partial

import torch
from torch import Tensor, nn

from tokexp.models.base import Backbone
from tokexp.spec.masked_autoencoding import MaeDecoder
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.layers import build_sincos2d_pos_embed  # noqa: E402 (timm imports torchvision)
from timm.models.vision_transformer import Block  # noqa: E402

Norm = partial(nn.LayerNorm, eps=1e-6)

INIT_STD = 0.02


class PatchDecoder(nn.Module):
    """Works on all patches in raster order, the class token in front."""

    def __init__(self, spec: MaeDecoder, backbone: Backbone) -> None:
        """Take the sizes and the encoder."""
        super().__init__()
        self.embed = nn.Linear(backbone.width, spec.width)
        self.fill = nn.Parameter(torch.empty(1, 1, spec.width))
        places = build_sincos2d_pos_embed(list(backbone.patch_grid), spec.width, interleave_sin_cos=False)
        places = torch.cat([torch.zeros(1, spec.width), places])[None]
        self.positions = nn.Parameter(places, requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(spec.width, spec.heads, qkv_bias=True, norm_layer=Norm) for _ in range(spec.depth)
        )
        self.norm = Norm(spec.width)
        self.apply(_initialise)
        nn.init.normal_(self.fill, std=INIT_STD)

    def forward(self, encoded: Tensor, place_of: Tensor) -> Tensor:
        """Return features (B, N, width) of encoded (B, 1 + n, D), class token and the n visible patches.

        place_of: (B, N) int64, for each patch its place among [visible ; masked], so that places from n are masked.
        """
        tokens = self.embed(encoded)
        first, seen = tokens[:, :1], tokens[:, 1:]
        fill = self.fill.to(seen.dtype).expand(len(seen), place_of.shape[1] - seen.shape[1], -1)
        patches = torch.cat([seen, fill], dim=1).take_along_dim(place_of[:, :, None], dim=1)
        tokens = torch.cat([first, patches], dim=1) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        features: Tensor = self.norm(tokens[:, 1:])
        return features


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
