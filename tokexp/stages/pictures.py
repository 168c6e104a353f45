"""What augmentation does to images, made visible: originals, tokenised and decoded, and each augmentation decoded.

As figures 3, 5, C and D of SeiT++. Everything comes from finished outputs; nothing is trained here.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokexp.augment.adapt_networks import AdaptNetworks
from tokexp.augment.base import AugmentContext
from tokexp.augment.policy import Policy
from tokexp.data.base import Batch
from tokexp.engine.randomness import generator
from tokexp.errors import InputError
from tokexp.spec.augment import AdaptSpec, Halves, OneOf, Sometimes, TokenAdapt, walk_steps
from tokexp.spec.base import Spec
from tokexp.spec.data import DataSpec
from tokexp.spec.tokenizers import TokenizerSpec
from tokexp.stages.assembly import codebook_of, image_source, load_strictly, load_tokenizer
from tokexp.storage.store import TokenStore
from tokexp.tokenizers.base import Codebook, Tokenizer

IMAGES = 8
"""Rows of the figure; an even number, since mixing pairs images."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class PictureSource:
    """Where a figure's parts come from: specs, and finished output folders by kind (tokenizer, tokens, adapt).

    grid: the side of the models' grid, the stored one if None.
    """

    data: DataSpec
    tokenizer: TokenizerSpec
    steps: Sequence[Spec]
    adapt: AdaptSpec | None
    folders: Mapping[str, Path]
    grid: int | None = None


def augmentation_figure(source: PictureSource) -> bytes:
    """Return a PNG: one row per image, one column per augmentation.

    Raises InputError if the tokenizer cannot decode.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = list(_columns(source))
    rows = len(columns[0][1])
    figure, axes = plt.subplots(
        rows, len(columns), figsize=(1.15 * len(columns), 1.02 * rows + 0.5), squeeze=False, dpi=110
    )
    for place, (title, images) in enumerate(columns):
        for row in range(rows):
            axis = axes[row][place]
            picture = images[row].permute(1, 2, 0).clamp(0, 1).numpy()
            axis.imshow(picture.squeeze(-1) if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
        axes[0][place].set_title(title, fontsize=8)
    figure.tight_layout(pad=0.4)
    target = io.BytesIO()
    figure.savefig(target, format="png")
    plt.close(figure)
    return target.getvalue()


def _columns(source: PictureSource) -> Iterator[tuple[str, Tensor]]:
    """Yield titles and images (IMAGES, C, H, W): original, decoded, then each kind of augmentation once."""
    images, labels, classes = _originals(source)
    tokenizer = load_tokenizer(source.tokenizer, source.data, source.folders["tokenizer"], _CPU)
    if not tokenizer.info.decodes:
        raise InputError("this tokenizer has no decoder, so its tokens cannot be shown")
    store = TokenStore.open(source.folders["tokens"] / "train.tokens")
    codebook = codebook_of(store, _CPU)
    table = torch.from_numpy(np.load(source.folders["tokens"] / "table.npy", allow_pickle=False).astype(np.int64))
    stored = codebook.map_grid(store.grid)
    grid = stored if source.grid is None else (source.grid, source.grid)
    context = AugmentContext(grid, codebook, _networks(source, codebook, stored, grid))
    with torch.inference_mode():
        yield "original", images
        batch = Batch(labels, classes, indices=codebook.unfold(table[tokenizer.encode(images)]))
        assert batch.indices is not None
        yield "tokens", _decoded(tokenizer, codebook, codebook.lookup(batch.indices))
        for step in _leaves(source.steps):
            changed = Policy((step,), context)(batch, generator(3, "pictures"))
            assert changed.values is not None
            yield str(getattr(step, "kind", "?")).replace("token_", ""), _decoded(tokenizer, codebook, changed.values)


def _originals(source: PictureSource) -> tuple[Tensor, Tensor, int]:
    images = image_source(source.data)
    labels = images.labels("test")
    first = {int(label): place for place, label in reversed(list(enumerate(labels.tolist())))}
    chosen = (sorted(first.values()) + list(range(len(labels))))[:IMAGES]
    return images.read("test", chosen), torch.from_numpy(labels[chosen]), len(images.classes)


def _networks(
    source: PictureSource, codebook: Codebook, stored: tuple[int, int], grid: tuple[int, int]
) -> AdaptNetworks | None:
    if source.adapt is None or "adapt" not in source.folders:
        return None
    networks = AdaptNetworks(source.adapt, codebook, stored, grid)
    load_strictly(networks, source.folders["adapt"] / "adapt.safetensors")
    return networks.eval()


def _leaves(steps: Sequence[Any]) -> Iterator[Spec]:
    """Yield one step of each kind, always applied, in the order of the policies."""
    seen: set[str] = set()
    for step in walk_steps(tuple(steps)):
        kind = getattr(step, "kind", None)
        if isinstance(step, (OneOf, Sometimes, Halves)) or kind is None or kind in seen:
            continue
        seen.add(kind)
        certain = {"prob": 1.0} if hasattr(step, "prob") else {}
        if isinstance(step, TokenAdapt):
            certain = {"mixup": 0.0, "cutmix": 0.0}
        yield step.model_copy(update=certain)


def _decoded(tokenizer: Tokenizer, codebook: Codebook, values: Tensor) -> Tensor:
    """Return pixels of embeddings (B, d, H, W): nearest stored code, as the tokenizer numbers it, decoded."""
    everything = Codebook(tokenizer.codebook(), codebook.metric)
    numbers = everything.nearest(codebook.codes.T[None, :, None, :])[0, 0]  # by the code itself, vector or level
    return tokenizer.decode(numbers[codebook.fold(codebook.nearest(values))])
