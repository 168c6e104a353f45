"""CAE's regressor and decoder (Chen et al. 2022, section 3, and its release): what stands behind the encoder.

Positions are fixed sines and cosines of the neck's width. Visible patches are read by the regressor and never changed;
the decoder never sees them.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.spec.context_autoencoding import Neck
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.layers import DropPath, LayerScale, Mlp, build_sincos2d_pos_embed  # noqa: E402 (timm imports torchvision)
from timm.models.vision_transformer import Block  # noqa: E402

Norm = partial(nn.LayerNorm, eps=1e-6)

MLP_RATIO = 4


class CrossAttention(nn.Module):
    """Queries (B, m, D) of keys and values (B, n, D); no bias on keys, which would change nothing."""

    def __init__(self, width: int, heads: int) -> None:
        """Take the width and the heads, which divide it."""
        super().__init__()
        self.heads = heads
        self.query, self.value = nn.Linear(width, width), nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.project = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Return (B, m, D)."""
        parts = self.query(queries), self.key(keys), self.value(values)
        split = [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]
        found = scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        result: Tensor = self.project(found)
        return result


class RegressorBlock(nn.Module):
    """One step of the predictions m of hidden patches, from visible ones v and from themselves.

    x = N(m + a attention(N_q(m + pos_m), N_k([v; m] + pos), N_v([v; m]))), m := x + b MLP(x). So the second branch is
    added to what was normalised, unlike in a plain transformer block; a and b are layer scales.
    """

    def __init__(self, width: int, heads: int, layer_scale: float | None, drop_path: float) -> None:
        """Take the sizes, the first layer scale (none if None) and the stochastic depth."""
        super().__init__()
        self.norm_query, self.norm_key, self.norm_value = Norm(width), Norm(width), Norm(width)
        self.attention = CrossAttention(width, heads)
        self.norm = Norm(width)
        self.mlp = Mlp(width, width * MLP_RATIO)
        scales = [nn.Identity() if layer_scale is None else LayerScale(width, layer_scale) for _ in range(2)]
        self.scale_attention, self.scale_mlp = scales
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, hidden: Tensor, visible: Tensor, hidden_places: Tensor, places: Tensor) -> Tensor:
        """Return m (B, m, D) of m and v (B, n, D); `places`: (B, n + m, D), positions of the visible, then hidden."""
        known = torch.cat([visible, hidden], dim=1)
        attended = self.attention(
            self.norm_query(hidden + hidden_places), self.norm_key(known + places), self.norm_value(known)
        )
        normed = self.norm(hidden + self.drop_path(self.scale_attention(attended)))
        result: Tensor = normed + self.drop_path(self.scale_mlp(self.mlp(normed)))
        return result


class RegressorAndDecoder(nn.Module):
    """Encoded visible patches to predicted latents of hidden ones, and these to what a classifier reads."""

    positions: Tensor

    def __init__(self, spec: Neck, backbone: Backbone, drop_path: float) -> None:
        """Take the sizes, the encoder, and the last blocks' stochastic depth, which rises linearly in both stacks."""
        super().__init__()
        self.width, heads = neck_shape(spec, backbone.width)
        same = self.width == backbone.width
        self.enter = nn.Identity() if same else nn.Sequential(nn.Linear(backbone.width, self.width), Norm(self.width))
        self.regressor = nn.ModuleList(
            RegressorBlock(self.width, heads, spec.layer_scale, rate) for rate in _rising(drop_path, spec.regressor)
        )
        self.latent_norm = Norm(self.width)
        self.decoder = nn.ModuleList(
            Block(self.width, heads, qkv_bias=True, init_values=spec.layer_scale, drop_path=rate, norm_layer=Norm)
            for rate in _rising(drop_path, spec.decoder)
        )
        self.norm = Norm(self.width)
        places = build_sincos2d_pos_embed(list(backbone.patch_grid), self.width, interleave_sin_cos=False)
        self.register_buffer("positions", places[None], persistent=False)
        self.apply(_initialise)

    def regress(self, encoded: Tensor, vector: Tensor, order: Tensor) -> Tensor:
        """Return the predicted latents (B, m, D), normed, of the first m patches of `order` (B, N).

        encoded: (B, N - m, width of the encoder), the other patches in that order. vector: (1, 1, D), where all
        predictions start.
        """
        visible = self.enter(encoded)
        count = order.shape[1] - visible.shape[1]
        hidden_places, seen_places = self._places(order[:, :count]), self._places(order[:, count:])
        places = torch.cat([seen_places, hidden_places], dim=1)
        hidden = vector.to(visible.dtype).expand(len(visible), count, -1)
        for block in self.regressor:
            hidden = block(hidden, visible, hidden_places, places)
        latents: Tensor = self.latent_norm(hidden)
        return latents

    def decode(self, latents: Tensor, hidden: Tensor) -> Tensor:
        """Return features (B, m, D) after a norm, of predicted latents at the patches `hidden` (B, m)."""
        rows = latents + self._places(hidden)
        for block in self.decoder:
            rows = block(rows)
        features: Tensor = self.norm(rows)
        return features

    def _places(self, patches: Tensor) -> Tensor:
        return self.positions.expand(len(patches), -1, -1).take_along_dim(patches[:, :, None], dim=1)


def neck_shape(spec: Neck, encoder_width: int) -> tuple[int, int]:
    """Return (width, heads) of a neck. Raises InputError if they do not fit the encoder."""
    try:
        return spec.shape(encoder_width)
    except ValueError as error:
        raise InputError(f"objective.neck: {error}; change one of them") from error


def _rising(last: float, count: int) -> list[float]:
    return [last * number / max(1, count - 1) for number in range(count)]


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
