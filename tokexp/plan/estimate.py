"""What stages will take: arithmetic from the spec, divided by this machine's speed as earlier attempts showed it.

Models say what a forward pass costs: a ViT's over n tokens of width d, 24 n d^2 + 4 n^2 d operations in each of its L
blocks (two for every multiply and add: 4 d^2 weights of attention and 8 d^2 of the MLP, and the two products of
attention); training costs three forward passes. The figures are meant to tell minutes from hours.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from tokexp.plan.graph import Plan, StageNode
from tokexp.plan.pretraining_cost import TRAINING, forward_like
from tokexp.spec.backbones import BackboneSpec
from tokexp.spec.base import Spec
from tokexp.spec.coefficients import Dct
from tokexp.spec.data import DataSpec, GivenTokens
from tokexp.spec.published_tokenizers import FrozenTokenizer
from tokexp.spec.reducing import FractionReduce
from tokexp.spec.stages import (
    AdaptStage,
    DownstreamStage,
    EvaluateStage,
    ImagesStage,
    PretrainStage,
    TokenizerStage,
    TokensStage,
)
from tokexp.spec.storage import StorageSpec
from tokexp.spec.store_front import TokenShape
from tokexp.spec.tasks import Probe
from tokexp.spec.tokenizers import PatchKMeans, TokenizerSpec, VqVae
from tokexp.spec.train import TrainSpec

CPU_SPEED = 1.0e10
"""Operations per second of one core in small matrix products, where nothing was measured yet."""

GPU_SPEED = 1.0e14
START_SECONDS = 4.0
"""Starting a worker and loading its libraries."""

UPDATE_SECONDS = 0.004
"""Least time of an optimizer update, whatever its size."""

_DEVIATION = 8  # bytes kept of a coefficient by its tokenizer
_ENCODING = 300.0  # operations for a pixel of an image that is decoded and encoded
_SEARCHES = 8
_STORED = 0.3  # bytes of an encoded image, over those of its pixels

Durations = Callable[[str], Sequence[tuple[float | None, float]]]
"""Stage kind to (operations, seconds) of earlier attempts."""


@dataclass(frozen=True)
class Work:
    """What a stage amounts to, whatever the machine."""

    operations: float
    updates: int
    bytes: int


@dataclass(frozen=True)
class Estimate:
    """What a stage will take here: seconds for one attempt, bytes of its output."""

    seconds: float
    bytes: int


@dataclass(frozen=True)
class Shape:
    """What the stages of one experiment share: images by split, the stored grid, the codebook, bytes of pixels.

    `kept` is the part of the training images that the budget leaves; `width` the numbers that a model reads at a place;
    `each` those that are stored for it: one, unless tokens are coefficients, with which there is no codebook.
    """

    train: int
    kept: int
    test: int
    grid: tuple[int, int]
    codes: int
    width: int
    pixels: int
    channels: int
    each: float = 1.0
    codebook: bool = True

    @property
    def vectors(self) -> int:
        """Return the numbers in the codebook."""
        return self.codes * self.width if self.codebook else 0


def estimate_plan(plan: Plan, counts: Mapping[str, int], durations: Durations | None = None) -> dict[str, Estimate]:
    """Return what every stage will take, by key. `counts` are images by split, {} if they are not known."""
    shape = shape_of([node.payload for node in plan.nodes], counts)
    return {node.key: estimate_stage(node, shape, durations) for node in plan.nodes}


def shape_of(payloads: Iterable[Spec], counts: Mapping[str, int]) -> Shape:
    """Return the sizes that stages share, from the payloads that name data, tokenizer and storage."""
    data: DataSpec | None = None
    tokenizer: TokenizerSpec | None = None
    storage: StorageSpec | None = None
    for payload in payloads:
        data = data or getattr(payload, "data", None)
        tokenizer = tokenizer or getattr(payload, "tokenizer", None)
        storage = storage or getattr(payload, "storage", None)
    train, test = counts.get("train", 0), counts.get("test", 0)
    if data is None:
        shape = Shape(train, train, test, (1, 1), 2, 1, 1, 1)
    elif isinstance(data, GivenTokens):
        given = data.token_shape() or TokenShape((1, 1), 2, 1)
        pixels = 3 * math.prod(given.grid) * data.pixels_per_token() ** 2
        shape = Shape(
            train, train, test, given.grid, given.codes, given.width, pixels, 3, given.coefficients or 1.0,
            not given.coefficients,
        )  # fmt: skip
    else:
        image = data.image_shape()
        grid, codes, width = (image[1], image[2]), 256, image[0]
        if tokenizer is not None:
            grid, codes, width = tokenizer.grid(image), _codes(tokenizer), tokenizer.code_width(image)
        shape = Shape(train, train, test, grid, codes, width, math.prod(image), image[0])
        if isinstance(tokenizer, Dct):
            grid, width = tokenizer.blocks(image), tokenizer.channels(image)
            each = math.prod(shape.grid) / max(1, math.prod(grid))
            shape = replace(shape, grid=grid, width=width, each=each, codebook=False)
    return shape if storage is None else replace(shape, kept=_kept(storage, shape))


def work_of(payload: Spec, shape: Shape) -> Work:
    """Return what a stage amounts to."""
    match payload:
        case TokenizerStage():
            return _tokenizer(payload, shape)
        case TokensStage():
            images = shape.kept + shape.test
            tokens = images * math.prod(shape.grid) * shape.each
            stored = tokens * _bits(shape) / 8 + 2 * images + 4 * shape.vectors
            search = 0.0 if isinstance(payload.data, GivenTokens) else 2.0 * tokens * shape.vectors
            return Work(search + images * _network(payload, shape), 0, round(stored))
        case ImagesStage():
            return _images(payload, shape)
        case AdaptStage():
            return _adapt(payload, shape)
        case PretrainStage():
            train = payload.objective.train
            forward = forward_like(payload, lambda model: _patches(model, shape))
            return _training(train, shape.kept, forward, 4 * parameters(payload.model, shape))
        case DownstreamStage():
            return _downstream(payload, shape)
        case EvaluateStage():
            return Work(shape.test * forward_operations(payload.model, shape), 0, 60 * shape.test)
    return Work(0.0, 0, 0)


def forward_operations(model: BackboneSpec, shape: Shape) -> float:
    """Return the operations of one image's forward pass."""
    return model.operations(_patches(model, shape))


def parameters(model: BackboneSpec, shape: Shape) -> int:
    """Return the model's weights, roughly: its blocks and positions."""
    return model.weights(_patches(model, shape))


def _patches(model: BackboneSpec, shape: Shape) -> tuple[int, int]:
    if model.input == "pixels":
        side = round(math.sqrt(shape.pixels / max(1, shape.channels)))
        grid = (side, side)
    else:
        grid = shape.grid if model.grid is None else (model.grid, model.grid)
    return model.patch_grid(grid)


def _tokenizer(payload: TokenizerStage, shape: Shape) -> Work:
    spec, stored = payload.tokenizer, 4 * shape.vectors
    if isinstance(spec, PatchKMeans):
        patches = min(spec.sample, shape.train * math.prod(shape.grid))
        return Work(2.0 * patches * shape.vectors * spec.iterations, 0, stored)
    if isinstance(spec, FrozenTokenizer):
        return Work(0.0, 0, stored)
    if isinstance(spec, Dct):
        return Work(shape.train * _transform(spec, shape), 0, _DEVIATION * shape.width)
    weights = 2 * 9 * spec.width**2 * (2 * spec.blocks + 1) * (1 + int(math.log2(spec.stride)))
    pixels = shape.pixels / max(1, shape.channels)
    return _training(spec.train, shape.train, 2.0 * weights * pixels / 4, stored + 4 * weights)


def _adapt(payload: AdaptStage, shape: Shape) -> Work:
    spec = payload.adapt
    tokens = math.prod(shape.grid) * spec.upscale**2
    forward = 2 * (24 * tokens * spec.width**2 + 4 * tokens**2 * spec.width)
    images = shape.kept if spec.images is None else min(spec.images, shape.kept)
    said = shape.codes if shape.codebook else shape.width  # of a place: logits of codes, or coefficients themselves
    weights = 2 * 12 * spec.width**2 + spec.width * (said + shape.width)
    return _training(spec.train, images, forward, 4 * weights)


def _downstream(payload: DownstreamStage, shape: Shape) -> Work:
    forward, stored = forward_operations(payload.model, shape), 4 * parameters(payload.model, shape)
    task = payload.task
    if isinstance(task, Probe):
        updates = task.epochs * max(1, shape.kept // task.batch_size)
        return Work(shape.kept * forward, updates, stored)
    return _training(task.train, shape.kept, forward, stored)


def _training(train: TrainSpec, images: int, forward: float, stored: float) -> Work:
    updates = train.total_steps(images)
    return Work(TRAINING * updates * min(train.batch_size, max(images, 1)) * forward, updates, round(stored))


def _network(payload: TokensStage, shape: Shape) -> float:
    """Return the operations of a published tokenizer or of a transform for one image; 0 for others, which are small."""
    if isinstance(payload.tokenizer, Dct):
        return _transform(payload.tokenizer, shape)
    if not isinstance(payload.tokenizer, FrozenTokenizer) or isinstance(payload.data, GivenTokens):
        return 0.0
    return payload.tokenizer.operations(payload.data.image_shape())


def _transform(tokenizer: Dct, shape: Shape) -> float:
    """Return the operations of an image's cosine transform: two products of each block with a matrix of its side."""
    return 4.0 * shape.pixels * tokenizer.block


def _codes(tokenizer: TokenizerSpec) -> int:
    if isinstance(tokenizer, (FrozenTokenizer, Dct)):
        return tokenizer.num_codes()
    if isinstance(tokenizer, VqVae):
        quantizer = tokenizer.quantizer
        return quantizer.num_codes()
    return tokenizer.codebook_size


def _bits(shape: Shape) -> int:
    return max(1, math.ceil(math.log2(max(2, shape.codes))))


def _images(payload: ImagesStage, shape: Shape) -> Work:
    """Return what storing images amounts to; solving for a parameter encodes all of them again and again."""
    solved = payload.storage.budget is not None
    passes = _SEARCHES if solved else 1
    return Work(_ENCODING * passes * shape.kept * shape.pixels, 0, round(_STORED * shape.kept * shape.pixels))


def _kept(storage: StorageSpec, shape: Shape) -> int:
    reduce = storage.reduce
    if isinstance(reduce, FractionReduce):
        share = reduce.share
        if share is None and storage.budget is not None:
            whole = _STORED * shape.pixels * (shape.train if storage.budget.per == "total" else 1)
            share = min(1.0, storage.budget.bytes / whole) if whole else 1.0
        return round((1.0 if share is None else share) * shape.train)
    if reduce is not None and storage.fraction is None:
        return shape.train
    if storage.fraction is not None:
        return round(storage.fraction * shape.train)
    if storage.budget is None:
        return shape.train
    per_image = math.prod(shape.grid) * shape.each * _bits(shape) / 8 + 2
    budget = storage.budget.bytes * (shape.train if storage.budget.per == "image" else 1)
    return max(1, min(shape.train, int((budget - 4 * shape.vectors) / per_image)))


def estimate_stage(node: StageNode, shape: Shape, durations: Durations | None) -> Estimate:
    """Return what one stage will take, among stages of this shape."""
    work = work_of(node.payload, shape)
    measured = _measured_speed(durations(node.kind)) if durations is not None else None
    if measured is not None:
        return Estimate(round(START_SECONDS + work.operations / measured, 1), work.bytes)
    gpu = node.resources.gpus > 0
    speed = GPU_SPEED * node.resources.gpus if gpu else CPU_SPEED * node.resources.cores()
    seconds = START_SECONDS + max(work.operations / speed, work.updates * UPDATE_SECONDS)
    return Estimate(round(seconds, 1), work.bytes)


def _measured_speed(durations: Sequence[tuple[float | None, float]]) -> float | None:
    """Return the median operations per second of the newest attempts of a kind, None if there are none."""
    speeds = [operations / max(seconds, 0.05) for operations, seconds in durations[-20:] if operations]
    return median(speeds) if speeds else None
