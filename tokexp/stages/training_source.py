"""What a pre-training is fed: batches as the model reads them and, where it predicts tokens of pixels, those tokens.

Stored targets come beside each image from the token store; encoded ones are made of the augmented pixels.
"""

import json
from dataclasses import dataclass, replace

import torch

from tokexp.data.base import Batch
from tokexp.engine.batches import Feed, PixelFeed, TargetFeed, TokenFeed
from tokexp.engine.loop import Augment
from tokexp.errors import DataError
from tokexp.spec.bootstrap import Byol
from tokexp.spec.stages import PretrainStage
from tokexp.stages.assembly import Inputs, build_policy, feed_of, image_source, load_tokenizer, open_store
from tokexp.stages.base import StageContext
from tokexp.storage.decoded import tokens_of
from tokexp.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class TrainingSource:
    """Batches, what is done to them, and the number of codes of the targets beside pixels (None where none are)."""

    feed: Feed
    augment: Augment
    target_codes: int | None = None


class EncodedTargets:
    """A policy whose result bears the tokens of its own pixels, in full precision whatever the model's."""

    def __init__(self, policy: Augment, tokenizer: Tokenizer) -> None:
        """Take both; the tokenizer must be in eval mode and on the batches' device."""
        self._policy, self._tokenizer = policy, tokenizer

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the augmented batch with `target_indices`."""
        batch = self._policy(batch, generator)
        assert batch.values is not None
        with torch.no_grad(), torch.autocast(batch.values.device.type, enabled=False):
            return replace(batch, target_indices=self._tokenizer.encode(batch.values.float().clamp(0, 1)))


class TwoViews:
    """A policy, and another one that changes its result twice: the second result comes as `other_view`."""

    def __init__(self, policy: Augment, view: Augment) -> None:
        """Take what both views share, and what each draws anew."""
        self._policy, self._view = policy, view

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the first view's batch, with the other's values beside."""
        batch = self._policy(batch, generator)
        first, second = self._view(batch, generator), self._view(batch, generator)
        return replace(first, other_view=second.values)


def training_source(context: StageContext, payload: PretrainStage, inputs: Inputs) -> TrainingSource:
    """Return what the objective of a payload is trained on."""
    policy: Augment = build_policy(context, payload.policy, payload.adapt, inputs)
    if isinstance(payload.objective, Byol):
        policy = TwoViews(policy, build_policy(context, payload.objective.views, None, inputs))
    if payload.tokenizer is not None:
        assert payload.data is not None
        tokenizer = load_tokenizer(payload.tokenizer, payload.data, context.input("tokenizer"), context.device)
        feed = feed_of(context, payload.model, payload.data, "train")
        return TrainingSource(feed, EncodedTargets(policy, tokenizer), len(tokenizer.codebook()))
    if payload.model.input == "tokens" or "tokens" not in context.inputs:
        return TrainingSource(feed_of(context, payload.model, payload.data, "train"), policy)
    feed, codes = _beside_pixels(context, payload)
    return TrainingSource(feed, policy, codes)


def _beside_pixels(context: StageContext, payload: PretrainStage) -> tuple[Feed, int]:
    """Return the images whose tokens are stored, with these, and the number of codes."""
    assert payload.data is not None
    store = open_store(context, "train")
    kept = json.loads((context.input("tokens") / "kept.json").read_text())["train"]
    pixels = PixelFeed(image_source(payload.data, context), "train", context.device, kept)
    tokens = TokenFeed(tokens_of(store), store.labels, store.num_classes, context.device)
    if pixels.num_images != tokens.num_images:
        raise DataError("the token store does not hold one grid of tokens for every image that it names")
    return TargetFeed(pixels, tokens), store.num_codes
