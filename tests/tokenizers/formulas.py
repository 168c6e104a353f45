"""A vision transformer's parts as formulas on named weights, patch by patch and head by head, for one image."""

import math

import torch
from torch import Tensor

Weights = dict[str, Tensor]


def norm(x: Tensor, w: Weights, name: str, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def dense(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def patches(image: Tensor, w: Weights, name: str) -> Tensor:
    """Return the embedded patches (tokens, width) of an image (3, H, W), row after row."""
    weight = w[f"{name}.weight"]
    p = weight.shape[-1]
    rows, columns = image.shape[1] // p, image.shape[2] // p
    found = [
        (weight * image[:, r * p : r * p + p, c * p : c * p + p]).sum((1, 2, 3))
        for r in range(rows) for c in range(columns)
    ]  # fmt: skip
    return torch.stack(found) + w[f"{name}.bias"]


def attended(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Return softmax(q k' / sqrt(size)) v of every head, side by side."""
    parts = [part.chunk(heads, dim=1) for part in (q, k, v)]
    size = parts[0][0].shape[1]
    return torch.cat([torch.softmax(a @ b.T / math.sqrt(size), 1) @ c for a, b, c in zip(*parts, strict=True)], 1)


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def nearest_angle(z: Tensor, codes: Tensor) -> Tensor:
    """Return the index of the code of the smallest angle for every row of z."""
    return (unit(z) @ unit(codes).T).argmax(1)
