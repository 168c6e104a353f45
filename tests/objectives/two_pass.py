"""An independent reference of pim and mapet: two explicit streams in raster order, from the papers' formulas.

Nothing is shared with the implementation but the weights: attention is written out by rows, the rule of who sees whom
by its three cases, and each stream is a pass of its own.
"""

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm


def two_pass_logits(objective: object, patches: Tensor, order: Tensor, context: int, mask_tokens: bool) -> Tensor:
    """Return logits (B, N + 1, slots * codes) of every patch by its number (1 .. N); rows of context are zero."""
    weights = dict(objective.named_parameters())  # type: ignore[attr-defined]
    rows = [
        _sample(weights, objective, sample, (order[number] + 1).tolist(), context, mask_tokens)
        for number, sample in enumerate(patches)
    ]
    return torch.stack(rows)


def _sample(weights: dict[str, Tensor], objective: object, patches: Tensor, order: list[int], context: int,
            mask_tokens: bool) -> Tensor:  # fmt: skip
    count = len(patches)
    rank = {0: 0, **{patch: place for place, patch in enumerate(order, 1)}}
    targets = [u for u in range(1, count + 1) if rank[u] > context]
    positions = weights["backbone.positions"][0]
    content = torch.cat([weights["backbone.class_token"][0], patches]) + positions
    query = weights["mask_vector"][0] + positions[targets]
    hidden = query if mask_tokens else query[:0]
    known = [[rank[v] <= context or rank[v] < rank[u] for v in range(count + 1)] for u in range(count + 1)]
    for u in range(count + 1):
        known[u][u] = True
    of_masks = [[rank[v] > rank[u] if rank[u] > context else True for v in targets] for u in range(count + 1)]
    for_hidden = [[rank[v] <= context for v in range(count + 1)] + [True] * len(targets)] * len(targets)
    for_content = [[*known[u], *of_masks[u]] for u in range(count + 1)]
    for_query = [
        [rank[v] <= context or rank[v] < rank[u] for v in range(count + 1)] + [rank[v] >= rank[u] for v in targets]
        for u in targets
    ]
    keys = count + 1 + len(hidden)
    for number in range(len(objective.backbone.blocks)):  # type: ignore[attr-defined]
        block = {
            name.removeprefix(f"backbone.blocks.{number}."): value
            for name, value in weights.items()
            if name.startswith(f"backbone.blocks.{number}.")
        }
        heads = objective.backbone.blocks[number].attn.num_heads  # type: ignore[attr-defined]
        stream = torch.cat([content, hidden])
        steps = [
            _layer(block, heads, part, stream, torch.tensor(sees)[:, :keys])
            for part, sees in ((content, for_content), (hidden, for_hidden[: len(hidden)]), (query, for_query))
            if len(part)
        ]
        content, query = steps[0], steps[-1]
        hidden = steps[1] if mask_tokens else hidden
    norm = layer_norm(query, query.shape[-1:], weights["backbone.norm.weight"], weights["backbone.norm.bias"], 1e-6)
    logits = norm @ weights["head.weight"].T + weights["head.bias"]
    found = logits.new_zeros(count + 1, logits.shape[-1])
    return found.index_copy(0, torch.tensor(targets), logits)


def _layer(block: dict[str, Tensor], heads: int, rows: Tensor, stream: Tensor, sees: Tensor) -> Tensor:
    """Return rows (n, width) after a block in which they ask the stream (m, width) as `sees` (n, m) allows."""
    width = rows.shape[-1]

    def normed(values: Tensor, name: str) -> Tensor:
        return layer_norm(values, (width,), block[f"{name}.weight"], block[f"{name}.bias"], 1e-6)

    def projected(values: Tensor, part: int) -> Tensor:
        cut = slice(part * width, (part + 1) * width)
        return normed(values, "norm1") @ block["attn.qkv.weight"][cut].T + block["attn.qkv.bias"][cut]

    asked, keys, values = projected(rows, 0), projected(stream, 1), projected(stream, 2)
    size, joined = width // heads, []
    for head in range(heads):
        cut = slice(head * size, (head + 1) * size)
        scores = asked[:, cut] @ keys[:, cut].T / size**0.5
        shares = scores.exp() * sees
        joined.append((shares / shares.sum(1, keepdim=True)) @ values[:, cut])
    attended = torch.cat(joined, dim=1) @ block["attn.proj.weight"].T + block["attn.proj.bias"]
    rows = rows + attended * block.get("ls1.gamma", 1.0)
    inner = gelu(normed(rows, "norm2") @ block["mlp.fc1.weight"].T + block["mlp.fc1.bias"])
    return rows + (inner @ block["mlp.fc2.weight"].T + block["mlp.fc2.bias"]) * block.get("ls2.gamma", 1.0)
