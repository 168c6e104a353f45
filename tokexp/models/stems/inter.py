"""Self-attention over overlapping windows before they become patches (Qian et al. 2022, MoTo, "inter-token").

The paper's attention cannot be derived from its 3.4 M more parameters and 1.8 more GFLOPs; one pre-norm block of the
model's width at all windows has 1.77 M and 1.86 G.
"""

from functools import partial

from torch import nn

from tokexp.models.stems.multi_scale import MultiScale
from tokexp.spec.stems import InterStem
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.models.vision_transformer import Block  # noqa: E402 (timm imports torchvision)

INIT_STD = 0.02
"""Deviation of the blocks' first weights, as in the model's own blocks."""


def build(spec: InterStem, in_channels: int, width: int) -> nn.Module:
    """Return (B, in_channels, H, W) -> (B, width, H // patch_size, W // patch_size)."""
    heads = spec.heads or max(h for h in range(1, max(1, width // 64) + 1) if width % h == 0)
    norm = partial(nn.LayerNorm, eps=1e-6)
    blocks = nn.Sequential(
        *(Block(width, heads, spec.mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(spec.blocks))
    )
    for layer in blocks.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=INIT_STD)
            nn.init.zeros_(layer.bias)
    return MultiScale(spec, in_channels, width, pooled=2, mixing=blocks)
