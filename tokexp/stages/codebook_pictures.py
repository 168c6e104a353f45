"""What a codebook stands for, made visible: the patches of a code, how often codes are used, and what their numbers do.

Patches of codes: as figures 3 to 5 of Baraldi et al. 2025 (MaPeT). Vectors with one channel changed and with Emb-Noise,
decoded: as figures A.1 and A.2 of Park et al. 2023 (SeiT). Everything comes from finished outputs.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokexp.engine.randomness import generator
from tokexp.errors import InputError
from tokexp.spec.augment import EmbNoise
from tokexp.spec.data import DataSpec
from tokexp.spec.tokenizers import TokenizerSpec
from tokexp.stages.assembly import image_source, load_tokenizer
from tokexp.storage.describing import entropy
from tokexp.storage.renumber import count_codes
from tokexp.storage.store import TokenStore
from tokexp.tokenizers.base import Tokenizer
from tokexp.tokenizers.coefficient_maps import FACT

CODES = 10
"""Codes shown of the most and of the least used."""

PATCHES = 8
"""Patches shown of a code."""

IMAGES = 4
CHANNELS = 12
DEVIATIONS = 2.0
"""What is added to a channel, in standard deviations of that channel over the codes."""

_SIDE = 44
_RED = (0.84, 0.15, 0.13)
_CPU = torch.device("cpu")
_CANDIDATES = 64


@dataclass(frozen=True)
class CodebookSource:
    """Where the figures come from: specs, and the finished outputs of the tokens and the tokenizer stage."""

    data: DataSpec
    tokenizer: TokenizerSpec | None
    tokens: Path
    fitted: Path | None
    noise: EmbNoise


@dataclass(frozen=True)
class Figure:
    """A PNG and the words that it needs."""

    png: bytes
    said: str


def codebook_figures(source: CodebookSource) -> list[Figure]:
    """Return the figures that can be drawn.

    The use of codes always; their patches where there are images, changed vectors where the tokenizer decodes, both
    unless tokens are levels of coefficients. Raises InputError for a store without tokens.
    """
    store = TokenStore.open(source.tokens / "train.tokens")
    counts = _counts(store)
    if not counts.sum():
        raise InputError("no pictures: the store holds no token")
    figures = [use_figure(counts, int(store.facts.get("asked_codes", len(counts))))]
    if source.tokenizer is None or source.fitted is None or FACT in store.facts:
        return figures  # a level of a coefficient is no patch, and a patch no vector of the codebook
    figures.append(_patches_figure(source, store, counts))
    tokenizer = load_tokenizer(source.tokenizer, source.data, source.fitted, _CPU)
    if tokenizer.info.decodes:
        images = image_source(source.data)
        chosen = images.read("test", range(min(IMAGES, len(images.labels("test")))))
        figures += [channel_figure(tokenizer, chosen), noise_figure(tokenizer, chosen, source.noise)]
    return figures


def _counts(store: TokenStore) -> np.ndarray:
    counts = np.zeros(store.num_codes, np.int64)
    for part in store.parts():
        counts += count_codes(part, store.num_codes)
    return counts


def use_figure(counts: np.ndarray, asked: int) -> Figure:
    """Return how often codes occur, the most used first; `asked` is the size of the whole codebook.

    Perplexity is 2 to the power of the entropy: the number of codes that, used evenly, would say as much.
    """
    used = np.sort(counts[counts > 0])[::-1] / counts.sum()
    bits = entropy(counts)
    dead = max(asked, len(used)) - len(used)
    with _figure(7.2, 2.7) as (figure, target):
        axis = figure.subplots()
        axis.fill_between(
            np.arange(len(used) + 1), np.append(used, used[-1:]), step="post", color="#3b7dd8", alpha=0.85
        )
        if dead:
            axis.axvspan(len(used), len(used) + dead, color="#8a94a0", alpha=0.25, linewidth=0)
            axis.text(len(used) + dead / 2, used[0] / 2, f"{dead} never used", ha="center", fontsize=8)
        axis.axhline(1 / len(used), color="#c2543d", linewidth=1, linestyle="--", label="used evenly")
        axis.set_xlim(0, len(used) + dead)
        axis.set_ylim(0)
        axis.set_xlabel("code, the most used first", fontsize=8)
        axis.set_ylabel("share of the tokens", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.legend(fontsize=8, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    said = (
        f"Use of the codes in the training tokens: {len(used)} of {max(asked, len(used))} codes, entropy {bits:.2f} "
        f"bits per token (at most {np.log2(len(used)):.2f}), perplexity {2**bits:.1f}."
    )
    return Figure(target.getvalue(), said)


def _patches_figure(source: CodebookSource, store: TokenStore, counts: np.ndarray) -> Figure:
    order = np.argsort(-counts, kind="stable")
    used = order[: int((counts > 0).sum())]
    most, least = used[:CODES], used[len(used) - min(CODES, max(0, len(used) - CODES)) :][::-1]
    found = find_places(store, [*most, *least])
    kept = np.array(json.loads((source.tokens / "kept.json").read_text())["train"], np.int64)
    wanted = sorted({image for places in found.values() for image, _, _ in places})
    images = image_source(source.data).read("train", kept[wanted].tolist()).clamp(0, 1).numpy()
    at = {image: number for number, image in enumerate(wanted)}
    groups = [("most used", most)] + ([("least used", least)] if len(least) else [])
    with _figure(0.5 + 4.2 * len(groups), 0.5 + 0.46 * len(most)) as (figure, target):
        axes = figure.subplots(1, len(groups), squeeze=False)[0]
        for axis, (title, codes) in zip(axes, groups, strict=True):
            rows = [[marked(images[at[i]], store.grid, (r, c)) for i, r, c in found[int(code)]] for code in codes]
            axis.imshow(_tiled(rows), vmin=0, vmax=1, interpolation="nearest")
            names = [f"{code}: {100 * counts[code] / counts.sum():.2g} %" for code in codes]
            axis.set_yticks(_SIDE * (np.arange(len(codes)) + 0.5), names, fontsize=7)
            axis.set_xticks([])
            axis.tick_params(length=0)
            axis.set_title(title, fontsize=9)
            axis.spines[:].set_visible(False)
    said = (
        "Patches of the training images that a code stands for (in the red frame, with their surroundings), for the "
        "most and the least used codes; beside each its number in the store and its share of the tokens."
    )
    return Figure(target.getvalue(), said)


def find_places(store: TokenStore, codes: Sequence[int]) -> dict[int, list[tuple[int, int, int]]]:
    """Return for each code up to PATCHES places (image, row, column) in different images, spread over the store."""
    images: dict[int, list[int]] = {int(code): [] for code in codes}
    spots: dict[tuple[int, int], np.ndarray] = {}
    random = np.random.default_rng(0)
    start = 0
    for number in range(store.num_blocks):
        block = store.block(number)
        for code, own in images.items():
            holding = np.flatnonzero((block == code).any(axis=(1, 2)))
            for image in _some(holding.tolist(), _CANDIDATES, random):
                own.append(start + image)
                spots[code, start + image] = np.argwhere(block[image] == code)
        start += len(block)
    found: dict[int, list[tuple[int, int, int]]] = {}
    for code, own in images.items():
        found[code] = []
        for image in _some(own, PATCHES, random):
            row, column = random.choice(spots[code, image]).tolist()
            found[code].append((image, row, column))
    return found


def _some(items: Sequence[int], most: int, random: np.random.Generator) -> list[int]:
    """Return at most so many items, in their order."""
    if len(items) <= most:
        return list(items)
    chosen: list[int] = np.sort(random.choice(items, most, replace=False)).tolist()
    return chosen


def marked(image: np.ndarray, grid: tuple[int, int], place: tuple[int, int]) -> np.ndarray:
    """Return RGB (side, side, 3) of the surroundings of a token's patch in an image (C, H, W), the patch framed red.

    The surroundings reach one patch to each side and stay inside the image.
    """
    spans = []
    for size, count, at in zip(image.shape[1:], grid, place, strict=True):
        patch = size / count
        wide = min(3.0, count) * patch
        first = min(max(0.0, (at - 1) * patch), size - wide)
        spans.append((first, wide, at * patch, patch))
    rows, columns = (
        np.minimum((first + (np.arange(_SIDE - 2) + 0.5) * wide / (_SIDE - 2)).astype(int), size - 1)
        for (first, wide, _, _), size in zip(spans, image.shape[1:], strict=True)
    )
    crop = image[:, rows][:, :, columns].transpose(1, 2, 0)
    shown = np.full((_SIDE, _SIDE, 3), 1.0)
    shown[1:-1, 1:-1] = crop if crop.shape[-1] == 3 else crop[..., :1]
    (top, bottom), (left, right) = (
        (1 + round((at - first) / wide * (_SIDE - 2)), round((at + patch - first) / wide * (_SIDE - 2)))
        for first, wide, at, patch in spans
    )
    for edge in (shown[top, left : right + 1], shown[bottom, left : right + 1]):
        edge[:] = _RED
    for edge in (shown[top : bottom + 1, left], shown[top : bottom + 1, right]):
        edge[:] = _RED
    return shown


def _tiled(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    whole = np.full((len(rows) * _SIDE, PATCHES * _SIDE, 3), 1.0)
    for down, row in enumerate(rows):
        for right, tile in enumerate(row):
            whole[down * _SIDE : (down + 1) * _SIDE, right * _SIDE : (right + 1) * _SIDE] = tile
    return whole


@torch.inference_mode()
def channel_figure(tokenizer: Tokenizer, images: Tensor) -> Figure:
    """Return images (n, C, H, W) decoded with a constant added to one channel of all their vectors, as figure A.2."""
    codes = tokenizer.codebook().float()
    spread = codes.std(0)
    channels = torch.argsort(spread, descending=True, stable=True)[:CHANNELS].sort().values.tolist()
    values = _vectors(tokenizer, images)
    columns = [("image", images), ("decoded", tokenizer.decode_values(values))]
    for channel in channels:
        changed = values.clone()
        changed[:, channel] += DEVIATIONS * spread[channel]
        columns.append((f"channel {channel}", tokenizer.decode_values(changed)))
    said = (
        f"Decoded after adding {DEVIATIONS:g} standard deviations to one channel of the code vectors, for the "
        f"{len(channels)} channels of {codes.shape[1]} that differ most between codes."
    )
    return Figure(_grid(columns), said)


@torch.inference_mode()
def noise_figure(tokenizer: Tokenizer, images: Tensor, step: EmbNoise) -> Figure:
    """Return images (n, C, H, W) decoded after each part of Emb-Noise and after both, as figure A.1."""
    codes = tokenizer.codebook().float()
    unit = float(codes.norm(dim=1).mean()) / codes.shape[1] ** 0.5 if step.relative else 1.0
    values = _vectors(tokenizer, images)
    random = generator(3, "codebook/noise")
    channel = step.channel_std * unit * torch.randn((*values.shape[:2], 1, 1), generator=random)
    element = step.element_std * unit * torch.randn(values.shape, generator=random)
    columns = [("image", images), ("decoded", tokenizer.decode_values(values))]
    for name, noise in (("channel noise", channel), ("full-size noise", element), ("Emb-Noise", channel + element)):
        columns.append((name, tokenizer.decode_values(values + noise)))
    said = (
        f"Decoded after noise on the code vectors: {step.channel_std:g} per channel, {step.element_std:g} per element"
        f"{' (of the mean length of a code over the root of its width)' if step.relative else ''}, and both "
        "(Emb-Noise)."
    )
    return Figure(_grid(columns), said)


def _vectors(tokenizer: Tokenizer, images: Tensor) -> Tensor:
    return tokenizer.codebook().float()[tokenizer.encode(images)].permute(0, 3, 1, 2).clone()


def _grid(columns: Sequence[tuple[str, Tensor]]) -> bytes:
    rows = len(columns[0][1])
    with _figure(1.0 * len(columns), 1.0 * rows + 0.3) as (figure, target):
        axes = figure.subplots(rows, len(columns), squeeze=False)
        for place, (title, images) in enumerate(columns):
            for row in range(rows):
                picture = images[row].permute(1, 2, 0).clamp(0, 1).numpy()
                axes[row][place].imshow(
                    picture[..., 0] if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1
                )
                axes[row][place].set_axis_off()
            axes[0][place].set_title(title, fontsize=8)
    return target.getvalue()


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Any, io.BytesIO]]:
    """Give a figure of so many inches and where its PNG is when the block has ended."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    figure, target = Sheet(figsize=(width, height), dpi=110), io.BytesIO()
    FigureCanvasAgg(figure)
    yield figure, target
    figure.tight_layout(pad=0.4)
    figure.savefig(target, format="png")
