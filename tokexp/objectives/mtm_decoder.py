"""MTM's decoder and its head (SeiT++ section 3.2; MAGE, Li et al. 2023).

It works on patches in rank order (see `masking`): a transformer does not care for the order of its tokens once each
has its position, and so the masked ones are a slice, with nothing scattered back.
"""

from functools import partial

import torch
from torch import Tensor, nn

from tokexp.errors import InputError
from tokexp.objectives.masking import Ranking
from tokexp.spec.objectives import DecoderSpec
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.models.vision_transformer import Block  # noqa: E402 (timm imports torchvision)

Norm = partial(nn.LayerNorm, eps=1e-6)

_INIT_STD = 0.02
_HEAD_WIDTH = 32
"""Width of an attention head where the spec does not say how many heads there are."""


def decoder_shape(spec: DecoderSpec, encoder_width: int) -> tuple[int, int]:
    """Return (width, heads): two thirds of the encoder's width, a head for every 32 of it, where not given.

    A width that is not given is rounded to a multiple of the heads; heads that are not given are the most that
    divide a given width. Raises InputError if both are given and do not fit.
    """
    if spec.width is None:
        wanted = encoder_width * 2 / 3
        heads = spec.heads or max(1, int(wanted) // _HEAD_WIDTH)
        return heads * max(1, round(wanted / heads)), heads
    most = max(1, spec.width // _HEAD_WIDTH)
    heads = spec.heads or next(count for count in range(most, 0, -1) if spec.width % count == 0)
    if spec.width % heads:
        raise InputError(f"objective.decoder: heads ({heads}) must divide width ({spec.width}); change one of them")
    return spec.width, heads


class MtmDecoder(nn.Module):
    """The encoder's output to features (B, masked, width) of the masked patches, in rank order.

    Learned positions (1, 1 + N, width), zero at first. At masked places stands a learned vector, N(0, 0.02) at first,
    or the class token as the decoder embeds it.
    """

    def __init__(self, spec: DecoderSpec, encoder_width: int, num_patches: int) -> None:
        """Take the decoder's sizes, the encoder's width and the number of patches."""
        super().__init__()
        self.width, heads = decoder_shape(spec, encoder_width)
        self.embed = nn.Linear(encoder_width, self.width)
        self.fill: nn.Parameter | None = None
        if spec.fill == "learned":
            self.fill = nn.Parameter(torch.empty(1, 1, self.width))
            nn.init.normal_(self.fill, std=_INIT_STD)
        self.positions = nn.Parameter(torch.zeros(1, 1 + num_patches, self.width))
        self.blocks = nn.ModuleList(
            Block(self.width, heads, qkv_bias=True, proj_drop=spec.dropout, attn_drop=spec.dropout, norm_layer=Norm)
            for _ in range(spec.depth)
        )
        self.norm = Norm(self.width)
        self.apply(_initialise)

    def forward(self, encoded: Tensor, ranking: Ranking) -> Tensor:
        """Return features of the masked patches; `encoded`: (B, 1 + n, D), class token, then the n highest ranks."""
        tokens = self.embed(encoded)
        first, seen = tokens[:, :1], tokens[:, 1:]
        fill = first if self.fill is None else self.fill.to(tokens.dtype).expand(len(tokens), -1, -1)
        count = ranking.order.shape[1]
        patches = torch.cat([fill.expand(-1, count - seen.shape[1], -1), seen], dim=1)
        is_masked = torch.arange(count, device=patches.device) < ranking.masked
        patches = torch.where(is_masked[:, None], fill, patches)
        places = self.positions[:, 1:].expand(len(tokens), -1, -1).take_along_dim(ranking.order[:, :, None], dim=1)
        tokens = torch.cat([first + self.positions[:, :1], patches + places], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        features: Tensor = self.norm(tokens[:, 1 : 1 + ranking.masked])
        return features


class TiedHead(nn.Module):
    """Features (B, m, width) to logits (B, m, slots, K): one vector for every token of a patch, against a table.

    The table is given without gradient; the bias (K) is the head's own. Slots are a patch's tokens row by row.
    """

    def __init__(self, width: int, slots: int, codes: int, code_width: int) -> None:
        """Take the decoder's width, the tokens of a patch, K and d."""
        super().__init__()
        self.slots = slots
        self.project = nn.Linear(width, slots * code_width)
        _initialise(self.project)
        self.activation = nn.GELU()
        self.norm = nn.LayerNorm(code_width, eps=1e-5)
        self.bias = nn.Parameter(torch.zeros(codes))

    @torch.no_grad()
    def start_level(self, table: Tensor) -> None:
        """Scale the norm down so that logits against codes of any length start as even as against a new table.

        Codes far apart would start the loss far above ln K. What they have in common does not count: it shifts all
        logits alike.
        """
        spread = (table - table.mean(0)).square().mean().sqrt()
        self.norm.weight.div_((spread / _INIT_STD).clamp_min(1.0))

    def forward(self, features: Tensor, table: Tensor) -> Tensor:
        """Return logits over the rows of `table`."""
        vectors = self.project(features).unflatten(-1, (self.slots, -1))
        return nn.functional.linear(self.norm(self.activation(vectors)), table, self.bias)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=_INIT_STD)
        nn.init.zeros_(module.bias)
