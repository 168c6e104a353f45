"""MoTo, modulation across tokens: normalise soft regions of a map by their own statistics (Qian et al. 2022, eq. 3-5).

    Z_i = u_i k(x at s_i) . q(x) + f(x)_i        activation of region i; s_1..s_n are sampled positions
    L   = softmax over i of tau Z                layout: sums to 1 at every position; tau multiplies, which softens
    Y   = sum_i L_i (scale_i (x - mean_i) / (deviation_i + eps) + shift_i)

mean_i and deviation_i are those of x weighted by L_i (`regional_norm`); equation 5 read literally takes those of x L_i
over all positions, which the field `statistics` can ask for. AttenNorm (Wang et al. 2020) has the same equations.
"""

from typing import cast

import torch
from torch import Tensor, nn

from tokexp.models.regional_norm import literal_norm, regional_norm
from tokexp.spec.stems import MotoStem
from tokexp.torchvision_ops import ensure_torchvision

ensure_torchvision()
from timm.layers import LayerNorm2d  # noqa: E402 (timm imports torchvision)


class Modulation(nn.Module):
    """MoTo on maps (B, c, h, w) of any size, in float32 at least; a sequence of N patches is a map (N, 1).

    No position sees another but through n keys and the statistics, so that time and memory grow with h w (n + c).
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, spec: MotoStem, channels: int, kernel: int) -> None:
        """Take the partition, the channels c of the maps, and the side of the convolution f."""
        super().__init__()
        self.spec, regions = spec, spec.entities
        keys = {"full": channels, "eighth": max(1, channels // 8), "auto": max(8, channels // 8)}[spec.key_width]
        self.semantic = nn.Conv2d(channels, regions, kernel, padding=kernel // 2)
        self.key, self.query = nn.Linear(channels, keys), nn.Linear(channels, keys)
        self.dictionary = nn.Parameter(torch.full((regions,), 0.1))
        nn.init.normal_(self.semantic.weight, std=spec.semantic_std)
        nn.init.zeros_(cast(Tensor, self.semantic.bias))
        if spec.dictionary == "normal":
            nn.init.normal_(self.dictionary)
        for name, first in (("scale", torch.ones(regions, channels)), ("shift", torch.zeros(regions, channels))):
            if spec.affine:
                self.register_parameter(name, nn.Parameter(first))
            else:
                self.register_buffer(name, first, persistent=False)
        self.value = nn.Conv2d(channels, channels, 1) if spec.value else None
        self.gate = nn.Parameter(torch.zeros(())) if spec.gate else None

    def forward(self, values: Tensor) -> Tensor:
        """Return the normalised map (B, c, h, w). Draws positions from the global generator where keys are sampled."""
        with torch.autocast(values.device.type, enabled=False):
            x = values.to(torch.promote_types(values.dtype, torch.float32))
            content = x if self.value is None else self.value(x)
            norm = literal_norm if self.spec.statistics == "literal" else regional_norm
            done = norm(content.flatten(2), self.layout(x), self.scale, self.shift, self.spec.eps).view_as(x)
            done = done if self.gate is None else x + self.gate * done
        return done.to(values.dtype)

    def layout(self, x: Tensor) -> Tensor:
        """Return the layout (B, n, P) of a float32 map, P = h w positions row by row."""
        activation = self.spec.temperature * self.activation(x)
        soft = activation.softmax(1)
        if self.spec.partition == "soft":
            return soft
        hard = torch.zeros_like(soft).scatter_(1, activation.argmax(1, keepdim=True), 1.0)
        # argmax has no gradient; the zero keeps every weight in the graph, as data-parallel training wants it.
        return hard + 0.0 * soft

    def activation(self, x: Tensor) -> Tensor:
        """Return Z (B, n, P) of a float32 map."""
        positions = self.positions(x)
        flat, f = x.flatten(2), self.semantic
        if positions is None:
            found: Tensor = f(x).flatten(2)
            return found
        # k(x_s) . q(x) is linear in x: n vectors of c channels an image do for keys, queries and a 1 x 1 f together.
        sampled = flat.take_along_dim(positions.expand(len(x), -1)[:, None], dim=2).transpose(1, 2)
        dictionary = self.dictionary.clamp(0, 1) if self.spec.clamp else self.dictionary
        keys = dictionary[:, None] * self.key(sampled)
        weight, bias = keys @ self.query.weight, keys @ self.query.bias
        if f.kernel_size == (1, 1):
            return torch.baddbmm((bias + f.bias)[:, :, None], weight + f.weight.flatten(1), flat)
        return torch.baddbmm(f(x).flatten(2) + bias[:, :, None], weight, flat)

    def positions(self, x: Tensor) -> Tensor | None:
        """Return the positions (1, n) or (B, n) int64 of the keys of a map; None where f alone decides."""
        rows, columns = x.shape[2:]
        regions, count, how = self.spec.entities, rows * columns, self.spec.eval_sampling
        if not self.training and how != "random":
            return None if how == "off" else evenly_spaced(regions, rows, columns, x.device)[None]
        images = len(x) if self.spec.sampling == "per_image" else 1
        if self.spec.replacement or count < regions:
            return torch.randint(count, (images, regions), device=x.device)
        return torch.rand(images, count, device=x.device).topk(regions, dim=1).indices


def evenly_spaced(count: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Return positions (count,) of a map, row by row: the middles of equal cells, as square as `count` divides.

    Where it does not divide, evenly spaced along the rows.
    """
    fits = [d for d in range(1, count + 1) if count % d == 0 and d <= rows and count // d <= columns]
    if not fits:
        return (2 * torch.arange(count, device=device) + 1) * (rows * columns) // (2 * count)
    down = min(fits, key=lambda d: abs(d * columns - count // d * rows))
    across = count // down
    top = (2 * torch.arange(down, device=device) + 1) * rows // (2 * down)
    left = (2 * torch.arange(across, device=device) + 1) * columns // (2 * across)
    return (top[:, None] * columns + left).flatten()


class ModulatedBlock(nn.Module):
    """A transformer block at whose end the patches are modulated; the class token in front goes past."""

    def __init__(self, block: nn.Module, modulation: nn.Module) -> None:
        """Take both."""
        super().__init__()
        self.block, self.modulation = block, modulation

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, 1 + N, width)."""
        tokens = self.block(tokens)
        patches = self.modulation(tokens[:, 1:].mT[..., None])
        return torch.cat([tokens[:, :1], patches[..., 0].mT], dim=1)


def build_modulation(spec: MotoStem, channels: int, kernel: int) -> nn.Module:
    """Return MoTo for maps of so many channels, or the plain normalisation that stands in its place."""
    if spec.norm == "instance":
        return nn.InstanceNorm2d(channels, eps=spec.eps, affine=spec.affine)
    if spec.norm == "layer":
        layer: nn.Module = LayerNorm2d(channels, eps=spec.eps, affine=spec.affine)
        return layer
    if spec.norm == "batch":
        return nn.BatchNorm2d(channels, eps=spec.eps, affine=spec.affine)
    return Modulation(spec, channels, kernel)
