"""A vision transformer of timm's blocks with SeiT's order at the end: mean over patches, then the norm.

Sources: Dosovitskiy et al. 2021 (ViT); Touvron et al. 2021 (DeiT's shapes); Park et al. 2023 (SeiT: a stem on token
embeddings, a class token that the mean leaves out, norm after pooling). Blocks are timm's, with qkv bias, layer norm
of eps 1e-6 and stochastic depth that rises linearly.
"""

from functools import partial
from math import sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from tokexp.errors import InputError
from tokexp.models.base import Backbone
from tokexp.models.modulation import ModulatedBlock, build_modulation
from tokexp.models.positions import sincos_positions
from tokexp.models.relative_bias import BiasedAttention
from tokexp.models.streams import Streams, through_block
from tokexp.registry import implementation
from tokexp.spec.models import VitSpec
from tokexp.spec.stems import MotoStem
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.models.vision_transformer import Block  # noqa: E402 (timm imports torchvision)

Positions = Literal["learned", "sincos"]

Norm = partial(nn.LayerNorm, eps=1e-6)

INIT_STD = 0.02
"""Deviation of first weights. timm cuts them off at +-2, a hundred deviations out: a plain normal."""


class VisionTransformer(Backbone):
    """Stem, class token, positions (1, 1 + N, width), blocks, final norm.

    With positions "sincos" the table is fixed (no gradient); it has the same name and shape as a learned one, so
    weights of one load into the other, where training goes on from them. Where the spec asks for relative positions
    there is no table: `bias` adds to the scores of attention between all patches, none of which may be left out.
    """

    positions: nn.Parameter | None

    def __init__(
        self,
        spec: VitSpec,
        in_channels: int,
        input_grid: tuple[int, int],
        drop_path: float = 0.0,
        positions: Positions = "learned",
    ) -> None:
        """Take the sizes, what is read, the last block's stochastic depth and how positions start."""
        super().__init__()
        self.in_channels, self.input_grid, self.width = in_channels, input_grid, spec.width
        self.patch_grid = spec.patch_grid(input_grid)
        count = self.patch_grid[0] * self.patch_grid[1]
        if count < 1:
            raise ValueError(f"the stem makes no patch of an input of {input_grid[0]} x {input_grid[1]}")
        self.stem: nn.Module = implementation("stems", spec.stem.kind)(spec.stem, in_channels, spec.width)
        self.class_token = nn.Parameter(torch.empty(1, 1, spec.width))
        relative = spec.positions != "absolute"
        self.positions = None if relative else nn.Parameter(torch.empty(1, 1 + count, spec.width))
        self.bias = BiasedAttention(spec.positions, self.patch_grid, spec.heads, spec.depth) if relative else None
        steps = max(1, spec.depth - 1)
        self.blocks = nn.ModuleList(
            Block(
                spec.width,
                spec.heads,
                spec.mlp_ratio,
                qkv_bias=True,
                drop_path=drop_path * i / steps,
                norm_layer=Norm,
                init_values=spec.layer_scale,
            )
            for i in range(spec.depth)
        )
        self.norm = Norm(spec.width)
        self._initialise(positions)
        if spec.rescale:
            self._rescale()
        if isinstance(spec.stem, MotoStem):
            for number in spec.stem.blocks:
                modulation = build_modulation(spec.stem, spec.width, 1)
                self.blocks[number - 1] = ModulatedBlock(self.blocks[number - 1], modulation)

    @torch.no_grad()
    def _rescale(self) -> None:
        """Shrink what each branch adds at first, the more the later its block (BEiT)."""
        for number, block in enumerate(self.blocks, 1):
            for branch in ("attn.proj", "mlp.fc2"):
                block.get_parameter(f"{branch}.weight").div_(sqrt(2 * number))

    def _initialise(self, positions: Positions) -> None:
        self.blocks.apply(_initialise)
        nn.init.normal_(self.class_token, std=INIT_STD)
        if self.positions is None:
            if positions != "learned":
                raise InputError(f"positions that start as {positions} need model.positions: absolute")
        elif positions == "learned":
            nn.init.normal_(self.positions, std=INIT_STD)
        elif positions == "sincos":
            with torch.no_grad():
                self.positions.copy_(sincos_positions(self.patch_grid, self.width))
            self.positions.requires_grad_(False)
        else:
            raise ValueError(f"positions are 'learned' or 'sincos', not {positions!r}")

    def embed(self, values: Tensor) -> Tensor:
        """Return patches (B, N, width), row by row."""
        patches: Tensor = self.stem(values)
        return patches.flatten(2).transpose(1, 2)

    def encode(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return (B, 1 + n, width) before the final norm; see Backbone.encode. `kept`: int64 (B, n) in any order."""
        tokens = self.place(patches, kept)
        if self.bias is None:
            for block in self.blocks:
                tokens = block(tokens)
            return tokens
        if kept is not None:
            raise InputError(
                "relative positions are of all patches; to leave some out, write model.positions: absolute"
            )
        for block, bias in zip(self.blocks, self.bias(), strict=True):
            tokens = block(tokens, attn_mask=bias.to(tokens.dtype))
        return tokens

    def place(self, patches: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return (B, 1 + n, width): positions added, patches at `kept` in that order, the class token in front."""
        tokens = patches
        first: Tensor = self.class_token
        if self.positions is not None:
            tokens, first = tokens + self.positions[:, 1:], first + self.positions[:, :1]
        if kept is not None:
            tokens = tokens.take_along_dim(kept[:, :, None], dim=1)
        first = first.expand(len(tokens), -1, -1)
        return torch.cat([first.to(tokens.dtype), tokens], dim=1)

    def two_streams(self, rows: Tensor, streams: Streams) -> Tensor:
        """Return the queries (B, T, width) before the final norm; the last block does no work for other rows."""
        if self.bias is not None:
            raise InputError("two streams need model.positions: absolute")
        if not all(isinstance(block, Block) for block in self.blocks):
            raise InputError("blocks that normalise over all patches would show targets to themselves: leave them out")
        *others, last = self.blocks
        for block in others:
            rows = through_block(block, rows, streams)
        return through_block(last, rows, streams, first=streams.keys)

    def pool(self, encoded: Tensor, how: str = "mean") -> Tensor:
        """Return (B, width) after the norm: of the patches' mean, or of the class token (`how` = "cls")."""
        if how not in ("mean", "cls"):
            raise ValueError(f"features are pooled by 'mean' or 'cls', not {how!r}")
        pooled: Tensor = self.norm(encoded[:, 1:].mean(1) if how == "mean" else encoded[:, 0])
        return pooled

    def undecayed(self) -> set[str]:
        """Return the class token and the table of positions, as DeiT does; biases are decayed, as in DTM's release."""
        return {"class_token"} if self.positions is None else {"class_token", "positions"}

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Return stem with positions and class token, then each block, then the final norm: depth + 2 groups.

        A block's biases go with it; those that blocks share go with the last group, as in BEiT's release.
        """
        first = [*self.stem.parameters(), self.class_token]
        groups = [first, *(list(block.parameters()) for block in self.blocks), list(self.norm.parameters())]
        if self.positions is not None:
            first.append(self.positions)
        if self.bias is not None:
            groups[-1] += [] if self.bias.shared is None else self.bias.shared.parameters()
            for number, own in enumerate(self.bias.blocks, 1):
                groups[number] += own.parameters()
        return groups


def _initialise(module: nn.Module) -> None:
    """Draw a linear layer's first weights from N(0, 0.02) and set its bias to 0; leave other modules."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def build(
    spec: VitSpec,
    in_channels: int,
    input_grid: tuple[int, int],
    drop_path: float = 0.0,
    positions: Positions = "learned",
) -> VisionTransformer:
    """Return a new transformer with random weights (seed the global generator before)."""
    return VisionTransformer(spec, in_channels, input_grid, drop_path, positions)
