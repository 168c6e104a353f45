"""What codecs make of tokens of photographs that their tables were not fitted on, beside SeiT's coding; their speed.

Tokens: 32 x 32 patches of 8 x 8 pixels, 391 codes. A patch's feature is what it has over the mean of its 3 x 3 patches,
whitened (32 numbers) and of unit length; codes are k-means centres of features. Such tokens are about as hard to code
as SeiT's, whose coding takes 1,137 bytes per image on ImageNet's tokens (Park et al. 2023). Photographs come from a
folder (`tokexp bench codec --data FOLDER`); one half fits features, codes and tables, the other is measured. Without a
folder, parts of scikit-learn's two sample photographs stand in, too few and too alike for the bounds on bytes.
"""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokexp.bench.base import BenchRow, at_most, median_interval
from tokexp.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image
    from torch import Tensor

    from tokexp.storage.base import Codec

CODES, SIDE, PATCH, WIDTH = 391, 32, 8, 32
CROPS = 12
"""Crops of a photograph that tables are fitted on, each at a place and a scale of its own, half of them mirrored."""

BYTES_BOUNDS = {"rans_context:best": 0.80, "rans_context:fast": 0.87}
"""Bytes per image over those of SeiT's coding."""

RATE_BOUNDS = {"rans_context:fast": 10_000.0, "packed": 200_000.0}
RATE_ANCHORS = {"packed": "goal 1,000,000"}
"""Images of 1,024 tokens that one core decodes per second."""

READ_BOUND_US, BATCH = 0.3, 1024
MANY, FEWER, SMALL_SIDE = 1_280_000, 128_000, 8
"""Images of the stores whose decoding must take the same memory, and the side of their grid."""

MEMORY_BOUND = 1.05

_PIXELS = SIDE * PATCH
_SAMPLE, _ROUNDS, _FITTED, _AT_ONCE = 100_000, 12, 250, 64
_PARTS = 4
_READ_IMAGES, _RATE_IMAGES, _ROUNDS_TIMED = (10_240, 327_680), 1024, 7


def rows(data: Path | None = None) -> list[BenchRow]:
    """Measure, within about five minutes on one core with some hundred photographs."""
    files = None if data is None else photographs_in(data)
    pictures = _samples() if files is None else [_opened(file) for file in files]
    fitted, held = photograph_tokens(pictures, CROPS)
    return [*_bytes_and_rates(fitted, held, files is not None), *_reading(held), *_memory()]


def _bytes_and_rates(fitted: np.ndarray, held: np.ndarray, bounded: bool) -> list[BenchRow]:
    import numpy as np

    from tokexp.registry import implementation
    from tokexp.storage.codec_comparison import NAMES, codec_spec
    from tokexp.storage.describing import entropy
    from tokexp.storage.traits import FittedCodec

    flat = held.reshape(len(held), -1)
    many = np.resize(flat, (_RATE_IMAGES, flat.shape[1]))
    found, seit = [], 0.0
    source = "photographs" if bounded else "parts of two sample photographs"
    what = f"{len(held)} {source}, tables of {len(fitted):,} crops of others"
    for name in ("seit", *(name for name in NAMES if name != "seit")):
        spec = codec_spec(name)
        codec: Codec = implementation("codecs", spec.kind)(spec, None, CODES, flat.shape[1])
        tables = 0
        if isinstance(codec, FittedCodec):
            codec.fit(fitted)
            tables = len(codec.tables())
        coded = codec.encode(flat)
        if not np.array_equal(codec.decode(coded, len(flat)), flat):
            raise InputError(f"the codec {name} does not give back its tokens")
        size = len(coded) / len(flat)
        seit = seit or size
        bound = BYTES_BOUNDS.get(name) if bounded else None
        holds = None if bound is None else size / seit <= bound
        anchor = f"{size:,.1f} bytes/image, tables of {tables:,} bytes apart"
        found.append(BenchRow(f"codec/{name} over seit", size / seit, "x", anchor, bound, holds))
        found += _rates(name, codec, many)
    order0 = entropy(np.bincount(flat.ravel(), minlength=CODES)) * flat.shape[1] / 8
    return [BenchRow("codec/order-0 bound", order0, "bytes/image", what), *found]


def _rates(name: str, codec: Codec, tokens: np.ndarray) -> list[BenchRow]:
    coded = codec.encode(tokens)
    bound = RATE_BOUNDS.get(name)
    decoding = _rate(lambda: codec.decode(coded, len(tokens)), len(tokens))
    holds = None if bound is None else decoding >= bound
    return [
        BenchRow(f"codec/{name} encodes", _rate(lambda: codec.encode(tokens), len(tokens)), "images/s"),
        BenchRow(f"codec/{name} decodes", decoding, "images/s", RATE_ANCHORS.get(name), bound, holds),
    ]


def _rate(work: Callable[[], object], images: int, rounds: int | None = None) -> float:
    """Return images per second of this thread's CPU time: the median of some runs, or of `rounds` after none."""
    if rounds is None:
        work()
    taken = []
    for _ in range(rounds or _ROUNDS_TIMED):
        begin = time.thread_time()
        work()
        taken.append(max(time.thread_time() - begin, 1e-9))
    return images / median_interval(taken).value


def _reading(held: np.ndarray) -> list[BenchRow]:
    """Measure random batches from decoded arrays of two sizes, the way training gathers them."""
    return [_read_row(held, images) for images in _READ_IMAGES]


def _read_row(held: np.ndarray, images: int) -> BenchRow:
    """Measure a batch of random rows, in turns with a plain copy of as many rows in order and with torch's gather."""
    import numpy as np

    from tokexp.storage.decoded import decoded
    from tokexp.storage.store import TokenStore

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.tokens"
        _write(path, np.resize(held, (images, SIDE, SIDE)), "packed")
        ways = _ways_to_read(decoded(TokenStore.open(path), Path(folder)).reshape(images, -1))
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(2 * _ROUNDS_TIMED + 1):
            for name in list(ways)[:: -1 if number % 2 else 1]:
                taken[name].append(1e6 / _rate(ways[name], images, 1))
    copied, torchs, cost = (median_interval(taken[name][1:]) for name in ways)
    anchor = f"copied in order {copied.value:.2f} us, by torch's index_select {torchs.value:.2f} us"
    name = f"codec/decoded array of {images * SIDE * SIDE * 2 / 1e6:,.0f} MB, batch {BATCH:,}"
    holds = cost.value <= READ_BOUND_US
    return BenchRow(name, cost.value, "us/image", anchor, READ_BOUND_US, holds, cost.low, cost.high)


def _ways_to_read(tokens: np.ndarray) -> dict[str, Callable[[], None]]:
    """Return three ways to read all tokens (N, P) once, in batches, into the same memory; the last is training's."""
    import numpy as np
    import torch

    from tokexp.storage.gathering import gather

    torch.set_num_threads(1)
    resident, order = torch.from_numpy(tokens.view(np.int16)), np.random.default_rng(0).permutation(len(tokens))
    room = np.empty((BATCH, tokens.shape[1]), np.uint16)
    torchs_room, torchs_order = torch.from_numpy(room.view(np.int16)), torch.from_numpy(order)
    batches = [slice(start, start + BATCH) for start in range(0, len(tokens), BATCH)]

    def copied() -> None:
        for batch in batches:
            np.copyto(room, tokens[batch])

    def by_torch() -> None:
        for batch in batches:
            torch.index_select(resident, 0, torchs_order[batch], out=torchs_room)

    def gathered() -> None:
        for batch in batches:
            gather(tokens, order[batch], room)

    return {"copied": copied, "torch": by_torch, "gathered": gathered}


def _memory() -> list[BenchRow]:
    """Measure the most memory that decoding block after block takes, for two sizes of synthetic data."""
    found = []
    for name in ("packed", "rans_context:fast"):
        most, fewer = _decoding_peak(name, MANY), _decoding_peak(name, FEWER)
        anchor = f"{most / 2**20:.1f} MiB for {MANY:,} images, {fewer / 2**20:.1f} MiB for {FEWER:,}"
        found.append(at_most(f"codec/{name}, memory of decoding", most / fewer, "x", MEMORY_BOUND, anchor))
    return found


def _decoding_peak(name: str, images: int) -> int:
    import numpy as np

    from tokexp.storage.store import TokenStore

    steps = np.random.default_rng(0).integers(-1, 2, (images, SMALL_SIDE, SMALL_SIDE), np.int16)
    tokens = (steps.cumsum(-1, np.int16).cumsum(-2, np.int16) % CODES).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.tokens"
        _write(path, tokens, name)
        del steps, tokens
        store = TokenStore.open(path)
        store.block(0)
        tracemalloc.start()
        for number in range(store.num_blocks):
            store.block(number)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def _write(path: Path, tokens: np.ndarray, name: str) -> None:
    import numpy as np

    from tokexp.storage.codec_comparison import codec_spec
    from tokexp.storage.store import write_store

    labels, codes = np.zeros(len(tokens), np.int64), np.zeros((CODES, 1), np.float32)
    write_store(path, tokens, labels, codes, codec_spec(name), metric="euclidean", num_classes=1)


def photograph_tokens(pictures: Sequence[Image], crops: int) -> tuple[np.ndarray, np.ndarray]:
    """Return tokens (n, 32, 32) uint16 of every second photograph's crops, and of the others' middles."""
    import numpy as np
    import torch

    known, others = pictures[::2], pictures[1::2]
    first = [_crops(picture, 1, number) for number, picture in enumerate(known[:_FITTED])]
    features = _Features(_patches(torch.cat(first)))
    fitted = [features.tokens(_crops(picture, crops, number)) for number, picture in enumerate(known)]
    return np.concatenate(fitted), np.concatenate([features.tokens(_crops(picture, 1, None)) for picture in others])


def _crops(image: Image, count: int, seed: int | None) -> Tensor:
    """Return crops (count, 3, 256, 256) in [0, 1]; without a seed, the middle."""
    import numpy as np
    import torch

    generator = np.random.default_rng(seed)
    found = []
    for number in range(count):
        share = 0.5 if seed is None else generator.random()
        scale = max(_PIXELS / min(image.size), 1.0 if seed is not None and number % 3 else 0.0)
        sized = image.resize((max(_PIXELS, round(image.width * scale)), max(_PIXELS, round(image.height * scale))))
        left = round((sized.width - _PIXELS) * share)
        top = round((sized.height - _PIXELS) * (0.5 if seed is None else generator.random()))
        pixels = np.asarray(sized.crop((left, top, left + _PIXELS, top + _PIXELS)))
        found.append(pixels[:, ::-1] if seed is not None and number % 2 else pixels)
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255


def _patches(images: Tensor) -> Tensor:
    """Return (n, 32, 32, 192): each patch less the mean of its neighbourhood of 3 x 3 patches."""
    from torch.nn.functional import avg_pool2d, pixel_unshuffle

    grid = pixel_unshuffle(images, PATCH)
    return (grid - avg_pool2d(grid, 3, 1, 1, count_include_pad=False)).permute(0, 2, 3, 1)


class _Features:
    """Whitening and codes, fitted once."""

    def __init__(self, patches: Tensor) -> None:
        import torch

        from tokexp.tokenizers.kmeans import kmeans

        points = patches.reshape(-1, patches.shape[-1])
        points = points[torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:_SAMPLE]]
        self.mean = points.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((points - self.mean).T))
        self.whiten = vectors[:, -WIDTH:] / values[-WIDTH:].clamp_min(1e-8).sqrt()
        self.codes = kmeans(self._of(points), CODES, _ROUNDS, 0).centres

    def tokens(self, images: Tensor) -> np.ndarray:
        import numpy as np

        from tokexp.tokenizers.quantizers import nearest_codes

        parts = []
        for some in images.split(_AT_ONCE):
            features = self._of(_patches(some)).reshape(-1, WIDTH)
            parts.append(nearest_codes(features, self.codes).view(-1, SIDE, SIDE).numpy().astype(np.uint16))
        return np.concatenate(parts)

    def _of(self, patches: Tensor) -> Tensor:
        from torch.nn.functional import normalize

        return normalize((patches - self.mean) @ self.whiten, dim=-1)


def photographs_in(folder: Path) -> list[Path]:
    """Return the pictures below a folder, by name. Raises InputError for less than four."""
    found = sorted(_pictures(folder))
    if len(found) < 4:
        raise InputError(f"{folder} holds {len(found)} pictures (.jpg, .jpeg, .png); the benchmark needs some hundred")
    return found


def _opened(file: Path) -> Image:
    from PIL import Image

    with Image.open(file) as opened:
        return opened.convert("RGB")


def _samples() -> list[Image]:
    """Return parts of the two photographs that come with scikit-learn."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    found = []
    for pixels in load_sample_images().images:
        whole = Image.fromarray(pixels)
        width, height = whole.width // _PARTS, whole.height // _PARTS
        places = [(column * width, row * height) for row in range(_PARTS) for column in range(_PARTS)]
        found += [whole.crop((left, top, left + width, top + height)) for left, top in places]
    return found


def _pictures(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.suffix.lower() in {".jpg", ".jpeg", ".png"})
