"""Two streams through one set of blocks, as one merged pass (XLNet, Yang et al. 2019; MaPeT, Baraldi et al. 2023).

A content stream is read and goes on; a query stream only asks: its rows are nobody's keys, so it can predict what it
must not have seen. Blocks are timm's; here is only what they do with rows of which not all are keys.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention


@dataclass(frozen=True)
class Streams:
    """How rows (B, free + 2 T, width) see one another: `free` rows, then T rows of content, then T queries.

    The free rows see one another, all of them, and nothing else: no mask is needed, and fewer scores. The other 2 T
    see what `bias` (2 T, free + T) allows of the free rows and the content: 0 for yes, minus infinity for no. Every
    row must see something.
    """

    free: int
    targets: int
    bias: Tensor

    @property
    def keys(self) -> int:
        """Return the number of rows that are keys; queries begin there."""
        return self.free + self.targets


def additive(visible: Tensor) -> Tensor:
    """Return the float32 bias of a boolean mask: 0 where it is true, minus infinity elsewhere."""
    return torch.zeros(visible.shape).masked_fill(~visible, -torch.inf)


def through_block(block: Any, rows: Tensor, streams: Streams, first: int = 0) -> Tensor:
    """Return the rows from `first` on, after one of timm's pre-norm blocks; stochastic depth is shared by all rows.

    `first` is 0, or `streams.keys` where only queries are wanted, as after the last block.
    """
    attended = _attend(block.attn, block.norm1(rows), streams, first)
    rows = rows[:, first:] + block.drop_path1(block.ls1(attended))
    result: Tensor = rows + block.drop_path2(block.ls2(block.mlp(block.norm2(rows))))
    return result


def _attend(attn: Any, rows: Tensor, streams: Streams, first: int) -> Tensor:
    """Return what timm's attention gives the rows from `first` on; only key rows are turned into keys and values."""
    width, weight, bias = attn.attn_dim, attn.qkv.weight, attn.qkv.bias
    asked = _heads(linear(rows[:, first:], weight[:width], bias[:width]), attn.num_heads)
    keys, values = (
        _heads(part, attn.num_heads)
        for part in linear(rows[:, : streams.keys], weight[width:], bias[width:]).chunk(2, dim=-1)
    )
    asked, keys = attn.q_norm(asked), attn.k_norm(keys)
    dropout, free = attn.attn_drop.p if attn.training else 0.0, streams.free
    found = []
    if first < free:
        seen = keys[:, :, :free], values[:, :, :free]
        found.append(scaled_dot_product_attention(asked[:, :, first:free], *seen, dropout_p=dropout))
    ordered, mask = asked[:, :, max(0, free - first) :], streams.bias[max(0, first - free) :]
    found.append(scaled_dot_product_attention(ordered, keys, values, attn_mask=mask.to(keys.dtype), dropout_p=dropout))
    merged = torch.cat(found, dim=2).transpose(1, 2).flatten(2)
    result: Tensor = attn.proj_drop(attn.proj(attn.norm(merged)))
    return result


def _heads(rows: Tensor, heads: int) -> Tensor:
    by_head: Tensor = rows.unflatten(-1, (heads, -1))
    return by_head.transpose(1, 2)
